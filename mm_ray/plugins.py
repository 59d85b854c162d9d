"""Finds code by name (methods, losses, aggregators, data sets, features, spaces), and digests the source of the user's own.

A field that names code takes a module of its folder (`kd`; the folder is the registry), a file (`mine.py`, `lab/mine.py`), the
name of a file in the working folder or on PYTHONPATH (`mine`), or a dotted name (`lab.mine`). `:thing` after a file or module
takes that one function instead of the one that the folder's modules have (`mine.py:my_loss`).

What a phase computes depends on the code that it names, so the digest of an own module's source goes into the key: of the
module, and of all own modules that it imports. Other inputs of it (files, the clock) are not part of the digest.
"""

import ast
import hashlib
import importlib
import importlib.util
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from mm_ray.errors import bad_value, in_one_line, unknown_name

SHIPPED = ("mm_ray", "tune_spaces")
"""Packages whose code is part of the version, and in no digest."""
NO_PHASE = ("space", "tracker", "searcher")
"""Fields whose code no phase's result depends on."""
_USED: dict[str, str] = {}
_FILES: dict[Path, ModuleType] = {}


def modules_in(package: str) -> tuple[str, ...]:
    """Short names of the modules that lie in a package's folder, sorted; the package itself is not imported.

    Args:
        package: Dotted name of the folder, such as `mm_ray.methods`.

    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    names = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
    return tuple(sorted(name for name in names if not name.startswith("_")))


def resolve(field: str, name: str, package: str, needs: str = "", fresh: bool = False) -> Any:
    """The module of a name; with `:thing` a namespace like it in which `needs` is that thing.

    Args:
        field: The config field that holds the name, for the error (`data.name`).
        name: See above; in a short name dashes and underscores are the same.
        package: Dotted name of the folder.
        needs: What the module must define.
        fresh: Read a file again that was loaded before. Otherwise code stays as it was loaded: it must not change in a run.

    Raises:
        UserError: An unknown name (lists what is there and the nearest match), code that does not import, or that lacks what it
            needs.

    """
    short, known = name.replace("-", "_"), modules_in(package)
    if short in known and hasattr(module := importlib.import_module(f"{package}.{short}"), needs or "__name__"):
        return module
    spelled, _, thing = name.partition(":")
    if not _is_own_name(spelled):
        raise unknown_name(field, name, known)
    module = load(field, spelled, fresh)
    if (thing or needs) and not hasattr(module, thing or needs):
        raise bad_value(field, name, f"the module has no {thing or needs}; see those of {package.replace('.', '/')}/")
    return SimpleNamespace(**vars(module) | {needs: getattr(module, thing)}) if thing else module


def public_name(name: str) -> str:
    """A name of code or of a model without this machine's folders: `transformers:wavlm` of `transformers:/models/ann/wavlm`. A
    model's name of the form OWNER/NAME stays.
    """
    pieces = name.split(":")
    return ":".join(piece if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", piece) else Path(piece).name for piece in pieces)


def check_name(field: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that is neither known nor one of own code, without importing what it names, which takes time.

    Raises:
        UserError: An unknown name, or a file that does not exist.

    """
    spelled = name.partition(":")[0]
    if spelled.replace("-", "_") in known:
        return
    if not _is_own_name(spelled):
        raise unknown_name(field, spelled, known)
    if spelled.endswith(".py") and find_file(spelled) is None:
        raise bad_value(field, name, "no such file")


def _is_own_name(spelled: str) -> bool:
    return "." in spelled or find_file(f"{spelled}.py") is not None


def find_file(name: str) -> Path | None:
    """A file of the working folder or of PYTHONPATH; not of the interpreter's own folders, where everything has a name.

    Ray's workers have another working folder; the driver's is on their path.
    """
    found = (folder / Path(name).expanduser() for folder in own_folders())
    try:
        return next((path.absolute() for path in found if path.is_file()), None)
    except (OSError, ValueError):  # a name that no file has
        return None


def own_folders() -> list[Path]:
    """The working folder, and the folders of PYTHONPATH."""
    return [Path(), *(Path(entry) for entry in sys.path if not _is_installed(Path(entry)))]


def load(field: str, name: str, fresh: bool = False) -> ModuleType:
    """Import own code by its file or dotted name; it runs that code.

    Raises:
        UserError: It does not import, whatever it raises.

    """
    path = find_file(name if name.endswith(".py") else f"{name}.py") if "." not in name or name.endswith(".py") else None
    if name.endswith(".py") and path is None:
        raise bad_value(field, name, "no such file")
    module: ModuleType = in_user_code(field, name, "cannot be imported", lambda: _import(name, path, fresh))
    if field not in NO_PHASE and (digest := code_digest(module)):
        _USED[name] = digest
    return module


def _import(name: str, path: Path | None, fresh: bool) -> ModuleType:
    if not {"", str(Path.cwd())} & {*sys.path}:  # a console script
        sys.path.append(str(Path.cwd()))
    if path is None:
        return importlib.import_module(name)
    if fresh or path not in _FILES:
        _FILES[path] = _run_file(path)
    return _FILES[path]


def _run_file(path: Path) -> ModuleType:
    """A file as a module; modules beside it can be imported."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = path.stem if _is_free(path) else f"{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what it defines crosses processes by this name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_free(path: Path) -> bool:
    if path.stem in sys.modules:
        return getattr(sys.modules[path.stem], "__file__", None) == str(path)
    spec = importlib.util.find_spec(path.stem)
    return spec is None or spec.origin == str(path)


def in_user_code(field: str, name: str, fault: str, call: Callable[[], Any]) -> Any:
    """Call a user's own code.

    Args:
        field: The field that names it.
        name: Its name there.
        fault: Words for a failure, such as `cannot be imported`.
        call: The call.

    Raises:
        UserError: Whatever goes wrong in it, with file, line and message.

    """
    try:
        return call()
    except (Exception, SystemExit) as error:
        where, line = _where(error), error.msg if isinstance(error, SyntaxError) else error
        remedy = "is its folder on PYTHONPATH?" if isinstance(error, ImportError) and not where else "correct the module"
        raise bad_value(field, name, f"{fault} ({in_one_line(f'{where}{type(error).__name__}: {line}')}); {remedy}") from error


def _where(error: BaseException) -> str:
    """`FILE:LINE: ` of the last own line that led to an error, if there is one."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not _is_shipped(frame.filename) and not _is_installed(Path(frame.filename))]
    return f"{own[-1].filename}:{own[-1].lineno}: " if own else ""


def _is_shipped(file: str) -> bool:
    return Path(__file__).parent in Path(file).parents


def _is_installed(path: Path) -> bool:
    resolved = path.resolve()
    return any(folder in (resolved, *resolved.parents) for folder in _installed_folders())


@lru_cache(maxsize=1)
def _installed_folders() -> tuple[Path, ...]:
    """Where Python and its packages lie."""
    paths = [sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(Path(path).resolve() for path in [*paths, *site.getsitepackages()])


def plain(name: str) -> str:
    """The last name of a spelling, fit for a folder's name: `mine` of `lab/mine.py:thing` and of `lab.mine`."""
    module = name.partition(":")[0]
    return Path(module).stem if module.endswith(".py") else module.rpartition(".")[2]


def code_used() -> dict[str, str]:
    """The digests of the own code that this process has loaded for phases, by the name that it was given."""
    return dict(_USED)


def code_digest(module: Any) -> str:
    """The digest of an own module, sixteen hex digits; empty for what the package ships and for Python's own modules.

    It is of the code that was loaded: the module keeps it, whatever becomes of the file.
    """
    shipped = {*SHIPPED, *sys.stdlib_module_names} - {"__main__"}
    if module.__name__.partition(".")[0] in shipped or not getattr(module, "__file__", None):
        return ""
    if not hasattr(module, "__code_digest__"):
        module.__code_digest__ = hashlib.blake2b(source_of(module), digest_size=8).hexdigest()
    return str(module.__code_digest__)


def digests_of(value: object) -> dict[str, str]:
    """The digests of the own code that an object's class, its bases and its attributes come from, by module name."""
    classes = [*type(value).__mro__, *map(_class_of, vars(value).values())]
    modules = {cls.__module__: sys.modules.get(cls.__module__) for cls in classes}
    digests = {name: code_digest(module) for name, module in modules.items() if module}
    return {name: digest for name, digest in sorted(digests.items()) if digest}


def _class_of(value: object) -> Any:
    return value if hasattr(value, "__qualname__") and isinstance(value.__module__, str) else type(value)


def source_of(module: Any) -> bytes:
    """The source of a module and, if it is an own one, of all own modules that it imports, in the order of their names."""
    file = Path(module.__file__).resolve()
    if not _is_own(file):
        return file.read_bytes()
    root = file.parents[module.__name__.count(".") + (file.name == "__init__.py")] if module.__package__ else file.parent
    around = [(parent.relative_to(root).parts, parent / "__init__.py") for parent in file.parents if root in parent.parents]
    names: dict[Path, tuple[str, ...]] = {file: ()}
    sources: dict[Path, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        sources[path] = path.read_bytes()
        for name, found in [*(around if path == file else []), *_imports(path, sources[path])]:
            if found not in names and found.is_file() and _is_own(found):
                names[found] = name
                waiting.append(found)
    beside = sorted((".".join(name), sources[path]) for path, name in names.items() if path != file)
    return b"".join([sources[file], *(f"\n# {name}\n".encode() + source for name, source in beside)])


def _is_own(file: Path) -> bool:
    return not _is_shipped(str(file)) and not _is_installed(file)


def _imports(file: Path, source: bytes) -> Iterator[tuple[tuple[str, ...], Path]]:
    """The modules that a file may import and the packages around them, by name, and the files that these may be."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # of a file that is imported under some condition only
    for node in ast.walk(tree):
        level = node.level if isinstance(node, ast.ImportFrom) else 0
        folders = [file.parents[level - 1]] if level else [file.parent, *own_folders()]
        for name in _named(node):
            for folder in folders if name[0] not in SHIPPED else ():
                for n in range(1, len(name) + 1):
                    place = folder.joinpath(*name[:n]).resolve()
                    yield from ((name[:n], found) for found in (place.with_suffix(".py"), place / "__init__.py"))


def _named(node: ast.AST) -> list[tuple[str, ...]]:
    """What a statement imports; the last name may be a module's, or that of something in one."""
    if isinstance(node, ast.Import):
        return [tuple(alias.name.split(".")) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(*(node.module.split(".") if node.module else ()), alias.name) for alias in node.names]
    return []
