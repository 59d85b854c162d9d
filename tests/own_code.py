"""Own modules that a test writes: this process forgets them, so that the next test imports its own of the same name."""

import importlib
import sys

from mm_ray import plugins
from mm_ray.models import encoder, flat_params, network


def forget_modules(folder):
    """Forget all modules that lie below a folder."""
    own = [
        name
        for name, module in sys.modules.items()
        if str(folder) in f"{vars(module).get('__file__')} {vars(module).get('__path__')}"
    ]
    for name in own:
        del sys.modules[name]
    plugins._FILES.clear()
    if own:  # an encoder of that name may be among them
        for cached in (encoder._output_size, network.part_size, network.networks_size, flat_params.flat_network):
            cached.cache_clear()


def forget(folder):
    """As if a new process began: files may be written again."""
    importlib.invalidate_caches()
    forget_modules(folder)
    for file in folder.rglob("*.pyc"):
        file.unlink()
