"""Own modules that a test writes: this process forgets them, so that the next test imports its own of the same name."""

import importlib
import sys

from mm_ray import plugins


def forget_modules(folder):
    """Forget all modules that lie below a folder."""
    for name, module in list(sys.modules.items()):
        if str(folder) in f"{vars(module).get('__file__')} {vars(module).get('__path__')}":
            del sys.modules[name]
    plugins._FILES.clear()


def forget(folder):
    """As if a new process began: files may be written again."""
    importlib.invalidate_caches()
    forget_modules(folder)
    for file in folder.rglob("*.pyc"):
        file.unlink()
