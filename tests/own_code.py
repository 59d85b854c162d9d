"""Own modules that a test writes: this process forgets them, so that the next test imports its own of the same name."""

import sys
from pathlib import Path

from mm_ray import plugins


def forget(folder):
    """Forget all modules that lie below a folder."""
    for name, module in list(sys.modules.items()):
        if folder in Path(getattr(module, "__file__", None) or "/").parents:
            del sys.modules[name]
    plugins._FILES.clear()
    plugins._USED.clear()
