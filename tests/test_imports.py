"""Who may import whom (the layers of the design), and what the folders that are registries may hold."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = (
    ("types", "errors", "console", "storage", "seeding", "plugins", "validation", "callable_module", "devices"),
    ("config",),
    ("data", "models", "distill", "losses", "evaluate"),
    ("fed", "prediction"),
    ("methods",),
    ("report", "runtime", "startup", "trackers", "training"),
    ("export",),
    ("tune",),
)
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ENTRY_POINTS = (
    "__init__", "api", "classifier", "results", "testing", "train", "predict", "prepare", "compare", "cli",
    "completion",
)  # fmt: skip
ENTRY_RANK = len(LAYERS)
REGISTRIES = (
    "mm_ray/methods",
    "mm_ray/losses",
    "mm_ray/models/encoders",
    "mm_ray/models/batched/encoders",
    "mm_ray/data/datasets",
    "mm_ray/data/features",
    "mm_ray/fed/aggregators",
    "mm_ray/trackers",
    "tune_spaces",
)


class Import(NamedTuple):
    file: Path
    line: int
    name: str


def imports_of(file: Path, root: Path) -> Iterator[Import]:
    """Every imported dotted name of a file; `from a import b` counts as `a.b`, since b may be a module."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = _absolute(node, file, root)
            yield from (Import(file, node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def _absolute(node: ast.ImportFrom, file: Path, root: Path) -> str:
    package = file.relative_to(root).parent.parts
    base = package[: len(package) - node.level + 1] if node.level else ()
    return ".".join([*base, *([node.module] if node.module else [])])


def part_of(file: Path, root: Path) -> str:
    """The part of mm_ray that a file belongs to: its top folder or module."""
    inside = file.relative_to(root / "mm_ray").parts
    return inside[0].removesuffix(".py")


def rank_of(part: str, root: Path) -> int | None:
    """The layer of a part; None for a part that has no place in the design."""
    if part in RANKS:
        return RANKS[part]
    is_entry_point = part in ENTRY_POINTS or (root / "mm_ray" / part / "__main__.py").is_file()
    return ENTRY_RANK if is_entry_point else None


def fault_of(found: Import, root: Path) -> str | None:
    """What is wrong with one import under mm_ray, or None."""
    part, (top, *rest) = part_of(found.file, root), found.name.split(".")
    rank = ENTRY_RANK if found.file.name == "__main__.py" else rank_of(part, root)
    if rank is None:
        return f"{part} has no layer: give it one here and in the design"
    if top == "ray":
        return None if part in ("runtime", "tune", "prepare") else "ray belongs to runtime/, tune/ and prepare"
    if top == "optuna":
        return None if part in ("tune", "api", "results") else "optuna belongs to tune/ and tune_spaces/"
    if top == "benchmarks":
        return "benchmarks are never imported"
    return _upward(part, rank, rest[0], root) if top == "mm_ray" and rest else None


def _upward(part: str, rank: int, target: str, root: Path) -> str | None:
    # `from mm_ray import __version__` names no part.
    target_rank = rank_of(target, root) if _exists(target, root) else 0
    if target_rank is None or target_rank > rank:
        return f"{part} may not import mm_ray.{target}"
    return None


def _exists(part: str, root: Path) -> bool:
    return (root / "mm_ray" / part).is_dir() or (root / "mm_ray" / f"{part}.py").is_file()


def faults(root: Path) -> list[str]:
    """Every import under mm_ray and tune_spaces against the direction, as `file:line: reason`."""
    found = [i for file in sorted((root / "mm_ray").rglob("*.py")) for i in imports_of(file, root)]
    reasons = [(i, fault_of(i, root)) for i in found]
    spaces = [i for file in sorted((root / "tune_spaces").rglob("*.py")) for i in imports_of(file, root)]
    reasons += [(i, f"a space may not import {i.name}") for i in spaces if i.name.split(".")[0] in ("ray", "benchmarks")]
    return [f"{i.file.relative_to(root)}:{i.line}: {reason}" for i, reason in reasons if reason]


def circle(root: Path) -> list[str]:
    """Files of mm_ray of which each imports the next and the last the first, also for type checks alone; none: empty."""
    files = {_module_name(file, root): file for file in (root / "mm_ray").rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        imported = {i.name if i.name in files else i.name.rpartition(".")[0] for i in imports_of(file, root)}
        graph[name] = imported & files.keys() - {name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


def missing(root: Path) -> list[str]:
    """Imports of modules of mm_ray that do not exist, as `file:line: name`; mypy is silent on them."""
    files = [file for part in ("mm_ray", "tune_spaces", "benchmarks", "tests") for file in sorted((root / part).rglob("*.py"))]
    found = [i for file in files for i in imports_of(file, root) if i.name.startswith("mm_ray.")]
    return [f"{i.file.relative_to(root)}:{i.line}: {i.name}" for i in found if not _resolves(root.joinpath(*i.name.split(".")))]


def _resolves(path: Path) -> bool:
    """Whether it is a module or a folder, or may be a name in one that has code."""
    is_module = path.is_dir() or path.with_suffix(".py").is_file()
    return is_module or path.parent.with_suffix(".py").is_file() or (path.parent / "__init__.py").is_file()


def _module_name(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def strangers(folder: Path) -> list[str]:
    """What a registry folder holds besides modules of a public name and an `__init__.py` without code."""
    entries = sorted(path for path in folder.iterdir() if path.name != "__pycache__")
    return [path.name for path in entries if not _belongs(path)]


def _belongs(path: Path) -> bool:
    if path.name == "__init__.py":
        module = ast.parse(path.read_text())
        return len(module.body) == (0 if ast.get_docstring(module) is None else 1)
    return path.is_file() and path.suffix == ".py" and path.stem.isidentifier() and not path.stem.startswith("_")


def test_imports_run_one_way():
    assert faults(ROOT) == []


def test_no_two_files_import_each_other():
    assert circle(ROOT) == []


def test_what_is_imported_exists():
    assert missing(ROOT) == []


@pytest.mark.parametrize("registry", REGISTRIES)
def test_a_registry_holds_nothing_else(registry):
    assert strangers(ROOT / registry) == []


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


BAD = {
    "mm_ray/types.py": "from mm_ray.config import X\n",
    "mm_ray/config.py": "import optuna\n",
    "mm_ray/data/load.py": "def load():\n    import ray\n",
    "mm_ray/models/net.py": "from ..fed import loop\n",
    "mm_ray/fed/rounds.py": "import os\nfrom mm_ray import runtime\n",
    "mm_ray/fed/aggregators/a.py": "import mm_ray.methods.control\n",
    "mm_ray/methods/m.py": "from ray.train import report\n",
    "mm_ray/runtime/host.py": "if False:\n    from mm_ray.tune import search\n",
    "mm_ray/tune/searcher.py": "from mm_ray.train import main\n",
    "mm_ray/train.py": "import benchmarks.speed\nimport ray\n",
    "mm_ray/stray.py": "import os\n",
    "tune_spaces/s.py": "import ray.tune\n",
}


def test_the_check_finds_every_fault(tmp_path):
    assert faults(write(tmp_path, BAD)) == [
        "mm_ray/config.py:1: optuna belongs to tune/ and tune_spaces/",
        "mm_ray/data/load.py:2: ray belongs to runtime/, tune/ and prepare",
        "mm_ray/fed/aggregators/a.py:1: fed may not import mm_ray.methods",
        "mm_ray/fed/rounds.py:2: fed may not import mm_ray.runtime",
        "mm_ray/methods/m.py:1: ray belongs to runtime/, tune/ and prepare",
        "mm_ray/models/net.py:1: models may not import mm_ray.fed",
        "mm_ray/runtime/host.py:2: runtime may not import mm_ray.tune",
        "mm_ray/stray.py:1: stray has no layer: give it one here and in the design",
        "mm_ray/train.py:1: benchmarks are never imported",
        "mm_ray/train.py:2: ray belongs to runtime/, tune/ and prepare",
        "mm_ray/tune/searcher.py:1: tune may not import mm_ray.train",
        "mm_ray/types.py:1: types may not import mm_ray.config",
        "tune_spaces/s.py:1: a space may not import ray.tune",
    ]


GOOD = {
    "mm_ray/plugins.py": "from mm_ray.errors import E\nfrom mm_ray import __version__\n",
    "mm_ray/errors.py": "",
    "mm_ray/distill/objective.py": "from mm_ray.models import net\nfrom ..losses import kd\n",
    "mm_ray/models/net.py": "import torch, raylib\n",
    "mm_ray/runtime/actor.py": "import ray\nfrom mm_ray.fed.rounds import run\n",
    "mm_ray/fed/rounds.py": "from .phase import P\n",
    "mm_ray/tune/__main__.py": "from mm_ray.cli import main\n",
    "mm_ray/cli.py": "from mm_ray.tune import search\n",
    "mm_ray/tune/searcher.py": "import optuna, ray\n",
    "mm_ray/prepare/__main__.py": "import ray\n",
    "tune_spaces/s.py": "import optuna\n",
}


def test_the_check_lets_the_right_way_pass(tmp_path):
    assert faults(write(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": "from mm_ray import b\n", "b.py": "import mm_ray.a\n"},
        {
            "a.py": "from mm_ray.b import x\n",
            "b.py": "from .c.d import y\n",
            "c/d.py": "def f():\n    from mm_ray.a import z\n",
        },
        {
            "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mm_ray.b import X\n",
            "b.py": "from mm_ray.a import Y\n",
        },
        {"__init__.py": "from mm_ray.a import x\n", "a.py": "from mm_ray import version\n"},
    ],
)
def test_the_check_finds_a_circle(tmp_path, files):
    found = circle(write(tmp_path, {f"mm_ray/{name}": text for name, text in files.items()}))
    assert found[0] == found[-1]
    assert len(set(found)) == len(files)


def test_the_check_finds_imports_of_modules_that_do_not_exist(tmp_path):
    files = {
        "mm_ray/__init__.py": "",
        "mm_ray/fed/a.py": "from mm_ray import __version__\nfrom mm_ray.fed.a import x\nfrom mm_ray import fed\n",
        "tests/t.py": "from mm_ray.fed.gone import x\nfrom mm_ray.fed import gone\nimport mm_ray.fed.gone\n",
    }
    found = [fault.rpartition(" ")[2] for fault in missing(write(tmp_path, files))]
    assert found == ["mm_ray.fed.gone.x", "mm_ray.fed.gone", "mm_ray.fed.gone"]


def test_a_file_that_several_import_makes_no_circle(tmp_path):
    files = {
        "mm_ray/a.py": "import mm_ray.b, mm_ray.c\n",
        "mm_ray/b.py": "from mm_ray import c\n",
        "mm_ray/c.py": "import os\n",
    }
    assert circle(write(tmp_path, files)) == []


def test_the_registry_check_finds_strangers(tmp_path):
    folder = write(
        tmp_path, {"kd.py": "", "_help.py": "", "a-b.py": "", "notes.txt": "", "sub/x.py": "", "__init__.py": "x = 1"}
    )
    assert strangers(folder) == ["__init__.py", "_help.py", "a-b.py", "notes.txt", "sub"]


@pytest.mark.parametrize("text", ["", '"""What lies here."""\n', "# a comment\n"])
def test_an_init_without_code_is_no_stranger(tmp_path, text):
    assert strangers(write(tmp_path, {"kd.py": "", "__init__.py": text})) == []
