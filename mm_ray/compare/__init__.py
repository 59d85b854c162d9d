"""The comparison of methods over missing video, heterogeneity, seeds and folds. `mm_ray.compare(...)` runs one."""

from mm_ray.callable_module import make_callable

make_callable(__name__)
