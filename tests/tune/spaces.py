"""A space file in a folder, loaded."""

import textwrap

from mm_ray.tune.space import load_space

MIXED = """
    OBJECTIVES = {"dev/audio_top1": "max"}

    def space(trial):
        overrides = {
            "phase2.temperature": trial.suggest_float("phase2.temperature", 1, 16, log=True),
            "phase2.student_init": trial.suggest_categorical("phase2.student_init", ["phase1", "random"]),
        }
        if overrides["phase2.student_init"] == "random":
            overrides["phase2.rounds"] = trial.suggest_int("phase2.rounds", 10, 30, step=10)
        return overrides
"""
PLAIN = """
    def space(trial):
        return {
            "phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20, log=True),
            "phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0, 1),
        }
"""


def space_of(folder, text=PLAIN):
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(text))
    return load_space(str(path))


def play(search, first, count, score_of, rounds=20):
    """Trials one at a time with whole curves, as Tune plays them; what became of each."""
    played = []
    for index in range(first, first + count):
        suggestion = search.suggest(f"t{index}")
        if suggestion == search.FINISHED:
            break
        played.append((suggestion["params"], _curve(search, f"t{index}", score_of(suggestion["params"]), rounds)))
    return played


def _curve(search, trial_id, score, rounds):
    for step in range(1, rounds + 1):
        value = score * (1 - 0.7**step)
        result = {"score": value, "steps": [(step, value)], "finished": step == rounds}
        if step == rounds or search.report(trial_id, result):
            search.on_trial_complete(trial_id, result)
            return step
    return None
