"""From a name in the config to a module: the folder is the registry, there is no other."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from mm_ray.errors import bad_value, unknown_name


def modules_in(package: str) -> tuple[str, ...]:
    """Short names of the modules that lie in a package's folder, sorted; the package itself is not imported.

    Args:
        package: Dotted name of the folder, such as `mm_ray.methods`.

    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    names = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
    return tuple(sorted(name for name in names if not name.startswith("_")))


def resolve(field: str, name: str, package: str) -> ModuleType:
    """The module that a name stands for.

    Args:
        field: The config field that holds the name, for the error (`data.name`).
        name: A short name (a module in the package's folder; dashes and underscores are the same) or a dotted name of
            anything importable.
        package: Dotted name of the folder.

    Raises:
        UserError: An unknown short name (lists what is there and the nearest match), or a dotted name that does not import.

    """
    if "." in name:
        return _import(field, name)
    short, known = name.replace("-", "_"), modules_in(package)
    if short not in known:
        raise unknown_name(field, name, known)
    return importlib.import_module(f"{package}.{short}")


def _import(field: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise bad_value(field, name, f"cannot be imported ({reason}); is its folder on PYTHONPATH?") from error
