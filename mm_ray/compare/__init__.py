"""The comparison of methods over missing video, heterogeneity, seeds and folds."""
