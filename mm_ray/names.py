"""From a name in the config to a module: the folder is the registry, there is no other."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from mm_ray.errors import bad_value, in_one_line, unknown_name


def modules_in(package: str) -> tuple[str, ...]:
    """Short names of the modules that lie in a package's folder, sorted; the package itself is not imported.

    Args:
        package: Dotted name of the folder, such as `mm_ray.methods`.

    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    names = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
    return tuple(sorted(name for name in names if not name.startswith("_")))


def resolve(field: str, name: str, package: str, needs: str = "") -> ModuleType:
    """The module that a name stands for.

    Args:
        field: The config field that holds the name, for the error (`data.name`).
        name: A short name (a module in the package's folder; dashes and underscores are the same) or a dotted name of
            anything importable.
        package: Dotted name of the folder.
        needs: What the module must define.

    Raises:
        UserError: An unknown short name (lists what is there and the nearest match), a dotted name that does not import, or a
            module that lacks what it needs.

    """
    short, known = name.replace("-", "_"), modules_in(package)
    if "." not in name and short not in known:
        raise unknown_name(field, name, known)
    module = import_named(field, name, name) if "." in name else importlib.import_module(f"{package}.{short}")
    if needs and not hasattr(module, needs):
        raise bad_value(field, name, f"the module has no {needs}; see those of {package.replace('.', '/')}/")
    return module


def import_named(field: str, name: str, module: str) -> ModuleType:
    """Import a module that the user named in a field; it runs its code.

    Raises:
        UserError: It does not import, whatever it raises.

    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = in_one_line(error)
        raise bad_value(field, name, f"cannot be imported ({reason}); is its folder on PYTHONPATH?") from error
    except (Exception, SystemExit) as error:
        reason = in_one_line(f"{type(error).__name__}: {error}")
        raise bad_value(field, name, f"cannot be imported ({reason}); mend the module") from error
