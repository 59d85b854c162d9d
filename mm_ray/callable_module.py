"""Modules that are functions too: `mm_ray.tune(space)` runs a study, and `mm_ray.tune.space` is a module of it.

`mm_ray.train`, `mm_ray.tune`, `mm_ray.compare` and `mm_ray.prepare` are commands (`python -m mm_ray.tune`) and functions of the
Python API. Python sets a module as an attribute of its package whenever it is imported, so a function of the same name would
be replaced by it sooner or later; the module itself can be called instead.
"""

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """Calls the function of its own name in `mm_ray.api`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function; `help(mm_ray.api.NAME)` documents it."""
        return self._function(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """The function's signature, for editors and `inspect`."""
        return inspect.signature(self._function)

    @property
    def _function(self) -> Any:
        return getattr(importlib.import_module("mm_ray.api"), self.__name__.rpartition(".")[2])


def make_callable(name: str) -> None:
    """Let a module of this package be called."""
    sys.modules[name].__class__ = CallableModule
