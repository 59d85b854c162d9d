import pytest

from mm_ray.errors import UserError
from mm_ray.names import modules_in, resolve


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
