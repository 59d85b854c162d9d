"""The study: Optuna's search under Ray Tune."""
