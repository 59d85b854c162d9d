"""From media files to a feature store: list, decode, compute, write, resumably. `mm_ray.prepare(...)` does it."""

from mm_ray.callable_module import make_callable

make_callable(__name__)
