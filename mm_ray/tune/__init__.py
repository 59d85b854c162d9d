"""The study: Optuna's search under Ray Tune. `mm_ray.tune(...)` runs one."""

from mm_ray.callable_module import make_callable

make_callable(__name__)
