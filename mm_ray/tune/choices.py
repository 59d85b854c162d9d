"""Names that a study's flags offer, known before Optuna and Ray are loaded."""

SEARCHERS = ("tpe", "gp", "cmaes", "random", "grid", "nsga2")
SCHEDULERS = ("none", "asha", "hyperband", "median", "wilcoxon")
HOSTS = ("actor", "train")
