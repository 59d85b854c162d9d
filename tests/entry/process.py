"""Entry points as processes, forked from one that has already spent the seconds that torch and Ray take to import."""

import atexit
import multiprocessing
import os
import re
import runpy
import signal
import sys
from pathlib import Path
from typing import NamedTuple

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["mm_ray.training", "mm_ray.results", "mm_ray.prediction", "mm_ray.tune.run"])


class Done(NamedTuple):
    """How a process ended, and what it wrote."""

    code: int
    out: str
    err: str


def start(module, flags, folder):
    """`python -m MODULE FLAGS` in a folder, which also gets its output, as `.out` and `.err`."""
    process = _CONTEXT.Process(target=_main, args=(module, [str(flag) for flag in flags], str(folder), dict(os.environ)))
    process.start()
    return process


def finish(process, folder, timeout=600):
    process.join(timeout)
    code = process.exitcode
    process.kill()
    return Done(code, Path(folder, ".out").read_text(), on_any_machine(Path(folder, ".err").read_text()))


def on_any_machine(stderr):
    """What a command wrote to stderr, without the line that only a slow machine adds."""
    return re.sub("still waiting for Ray to start.*\n", "", stderr)


def run(module, flags, folder, timeout=600):
    return finish(start(module, flags, folder), folder, timeout)


def _main(module, flags, folder, environment):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, name in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [module, *flags]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background
    sys.modules.pop(module, None)  # it is imported already, which a fresh interpreter would not know
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing would leave them out, and Ray ends its own processes with them
