"""Names of code, and the digests of own code."""

import importlib
import sys
from types import SimpleNamespace

import pytest
from own_code import forget

from mm_ray.config import Phase1Config
from mm_ray.errors import UserError
from mm_ray.plugins import code_digest, digests_of, load, modules_in, public_name, resolve


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "apple_pie.py").write_text("TASTE = 'sweet'\n")
    (folder / "broken.py").write_text("import not_there_at_all\n")
    (folder / "_private.py").write_text("")
    (folder / "notes.txt").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "shelf"


def test_the_folder_is_the_registry(shelf):
    assert modules_in(shelf) == ("apple_pie", "broken")


@pytest.mark.parametrize("name", ["apple_pie", "apple-pie", "shelf.apple_pie"])
def test_short_and_dotted_names(shelf, name):
    assert resolve("food", name, shelf).TASTE == "sweet"


def test_unknown_short_name_lists_and_guesses(shelf):
    with pytest.raises(UserError, match=r"^--food aple_pie: did you mean 'apple_pie'\? known names: apple_pie, broken;"):
        resolve("food", "aple_pie", shelf)


@pytest.mark.parametrize("name", ["nowhere.to_be_found", "shelf.missing", "shelf.broken", ".apple_pie", "shelf..x"])
def test_a_dotted_name_that_does_not_import_is_one_line(shelf, name):
    with pytest.raises(UserError, match=r"^--food .*cannot be imported") as caught:
        resolve("food", name, shelf)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_missing_holds_nothing():
    assert modules_in("mm_ray.no_such_folder") == ()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder of its own, with the modules that a test writes there gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    yield tmp_path
    forget(tmp_path)


def write(folder, files):
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    "name", ["mine", "mine.py", "./mine.py", "{}/mine.py", "lab.mine", "lab/mine.py", "mine.py:TASTE", "lab.mine:TASTE"]
)
def test_one_spelling_for_own_code(here, shelf, name):
    write(here, {"mine": "TASTE = 'sour'", "lab/mine": "TASTE = 'sour'"})
    assert resolve("food", name.format(here), shelf, "TASTE").TASTE == "sour"


def test_one_thing_of_a_file_stands_for_what_a_module_has(here, shelf):
    write(here, {"mine": "SALT = 1\ndef sharp(): return SALT\ndef mild(): return 0"})
    assert resolve("food", "mine.py:sharp", shelf, "cook").cook() == 1
    assert resolve("food", "mine:mild", shelf, "cook").SALT == 1
    with pytest.raises(UserError, match=r"^--food mine:hot: the module has no hot; "):
        resolve("food", "mine:hot", shelf, "cook")


def test_a_file_on_the_path_but_not_python_s_own(here, shelf, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere, {"far": "TASTE = 'far'"})
    monkeypatch.syspath_prepend(str(elsewhere))
    assert resolve("food", "far", shelf).TASTE == resolve("food", "far.py", shelf).TASTE == "far"
    for name in ("os", "json", "numpy", "csv"):
        with pytest.raises(UserError, match=rf"^--food {name}: .*known names: apple_pie, broken"):
            resolve("food", name, shelf)


def test_two_files_of_one_name_and_one_that_changes(here, shelf):
    write(here, {"a/mine": "TASTE = 'a'", "b/mine": "TASTE = 'b'", "random": "TASTE = 'mine'"})
    assert [resolve("food", f"{folder}/mine.py", shelf).TASTE for folder in "abab"] == list("abab")
    write(here, {"a/mine": "TASTE = 'changed'"})
    assert resolve("food", "a/mine.py", shelf).TASTE == "a", "code stays as it was loaded"
    assert resolve("food", "a/mine.py", shelf, fresh=True).TASTE == "changed"
    assert resolve("food", "random.py", shelf).TASTE == "mine"
    assert "TASTE" not in vars(importlib.import_module("random"))


@pytest.mark.parametrize("name", ["mine.py", "mine"])
def test_an_error_names_the_own_line(here, shelf, name):
    write(here, {"mine": "import helper", "helper": "\n1 / 0"})
    with pytest.raises(UserError, match=r"^--food mine(.py)?: cannot be imported \(.*helper.py:2: ZeroDivisionError: .*corr"):
        resolve("food", name, shelf)


def digest(here, name):
    forget(here)
    return code_digest(load("food", name))


OWN = {
    "mine": "import helper\nfrom lab.tools import spoon\nimport numpy, os",
    "helper": "import deep",
    "deep": "X = 1",
    "lab/__init__": "",
    "lab/tools/__init__": "from . import spoon",
    "lab/tools/spoon": "SIZE = 1",
    "other": "unused = 1",
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["mine", "mine.py", "{}/mine.py"])
def test_the_digest_is_of_all_that_lies_beside_and_is_imported(here, name):
    write(here, OWN)
    before = digest(here, name.format(here))
    assert len(before) == 16
    assert digest(here, name.format(here)) == before
    for file in OWN:
        write(here, {file: OWN[file] + "\n# edited"})
        assert (digest(here, name.format(here)) != before) == (file != "other"), file
        write(here, OWN)


def test_a_module_of_a_package_counts_the_packages_around_it(here):
    files = {"lab/__init__": "", "lab/mine": "from .near import A\ndef f():\n    import far", "lab/near": "A = 1", "far": ""}
    write(here, files)
    before = digest(here, "lab.mine")
    for file in files:
        write(here, {file: files[file] + "\n# edited"})
        assert digest(here, "lab.mine") != before, file
        write(here, files)


def test_what_is_shipped_or_python_s_has_no_digest():
    assert code_digest(importlib.import_module("mm_ray.methods.control")) == ""
    assert code_digest(importlib.import_module("json")) == code_digest(sys) == ""
    assert digests_of(Phase1Config()) == {}


def test_an_object_of_own_classes(here):
    write(here, {"mine": "class Base: pass", "lab/mine": "import mine\nclass Own(mine.Base): pass\ndef f(): pass"})
    module = load("food", "lab.mine")
    assert digests_of(module.Own()) == {"lab.mine": code_digest(module), "mine": code_digest(sys.modules["mine"])}
    assert list(digests_of(SimpleNamespace(function=module.f))) == ["lab.mine"]


def test_a_digest_is_of_what_was_loaded(here):
    write(here, {"mine": "X = 1"})
    module = load("food", "mine")
    before = code_digest(module)
    write(here, {"mine": "X = 2"})
    assert code_digest(module) == before


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("transformers:/models/ann/models/wavlm", "transformers:wavlm"),
        ("transformers:./wavlm/", "transformers:wavlm"),
        ("transformers:facebook/wav2vec2-base", "transformers:facebook/wav2vec2-base"),
        ("torchvision:resnet18", "torchvision:resnet18"),
        ("/models/ann/mine.py:thing", "mine.py:thing"),
        ("log_mel", "log_mel"),
    ],
)
def test_a_public_name_names_no_folder(name, public):
    assert public_name(name) == public
