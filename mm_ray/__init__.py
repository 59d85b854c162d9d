"""Train, compare and tune ModalityMirror on Ray, from Python.

`import mm_ray` loads neither torch nor Ray: what a name needs is imported when it is first used.

    result = mm_ray.train(data="synthetic", control=True, **{"phase2.rounds": 24})
    study = mm_ray.tune("distill", trials=20)
    table = mm_ray.compare(["modality_mirror", "control_all"], seeds=5)
    student = mm_ray.load_student(result.folder)
"""

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # `python -m mm_ray.train` may import for seconds before `mm_ray.cli.run_main` takes over: ^C ends it without a word.
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))

if TYPE_CHECKING:
    from mm_ray.api import compare, load_data, load_result, load_student, prepare, train, tune
    from mm_ray.config import ExperimentConfig
    from mm_ray.errors import UserError

__version__ = "0.1.0"
__all__ = [
    "ExperimentConfig", "UserError", "__version__", "compare", "load_data", "load_result", "load_student", "prepare", "train",
    "tune",
]  # fmt: skip

_HOMES = {
    "ExperimentConfig": "mm_ray.config",
    "UserError": "mm_ray.errors",
    "load_data": "mm_ray.api",
    "load_result": "mm_ray.api",
    "load_student": "mm_ray.api",
}
_CALLABLE = ("compare", "prepare", "train", "tune")
"""Modules that can be called (`mm_ray.callable_module`)."""


def __getattr__(name: str) -> Any:
    if name in _CALLABLE or name == "testing":
        return importlib.import_module(f"mm_ray.{name}")
    if name in _HOMES:
        globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "testing"})
