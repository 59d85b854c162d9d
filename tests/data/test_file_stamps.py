"""Changed recordings and other recordings of the same names are seen, whatever the root is called."""

import os

import pytest
from media_files import tone, write_wav

from mm_ray.config import DataConfig
from mm_ray.data import file_stamps as stamps_module
from mm_ray.data.file_stamps import Stamp, changed, file_stamps, origin_of, root_identity
from mm_ray.data.load import load_data, store_path
from mm_ray.data.manifest import find_manifest, read_manifest
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main
from mm_ray.storage import locate, open_binary

THEN = 1_700_000_000


def make_root(root, hz):
    """Six recordings of one size and one time, whatever their pitch."""
    for label in "ab":
        for number in range(3):
            path = write_wav(root / label / f"{number}.wav", tone(hz + 10 * number + 50 * (label == "b"), 0.2, 8000), 8000)
            os.utime(path, (THEN, THEN))
    return root


def place_of(root):
    data = DataConfig(name="folder", root=str(root))
    return store_path(find_manifest("folder"), read_manifest(data), data, "cache").name


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_all_names_of_a_root_are_one_place_and_two_roots_are_two(home, monkeypatch):
    make_root(home / "one", 300)
    (home / "link").symlink_to(home / "one")
    monkeypatch.chdir(home)
    assert len({place_of(root) for root in (home / "one", "one", "~/one", f"file://{home}/one", home / "link")}) == 1
    make_root(home / "two", 300)
    assert place_of("~/two") != place_of("~/one")


@pytest.mark.parametrize("root", ["~/one", "file://{home}/one", "mock:///{name}"])
def test_a_change_of_contents_alone_is_seen(home, root):
    """The size and the time are as they were."""
    place = root.format(home=home, name=home.name)

    def put(hz):
        make_root(home / "one", hz)
        if place.startswith("mock"):
            for path in sorted((home / "one").rglob("*.wav")):
                filesystem, there = locate(f"{place}/{path.relative_to(home / 'one')}")
                filesystem.create_dir(there.rpartition("/")[0])
                with filesystem.open_output_stream(there) as file:
                    file.write(path.read_bytes())

    put(300)
    before, table = place_of(place), load_data(DataConfig(name="folder", root=place), home / "cache")
    assert place_of(place) == before
    put(400)
    assert place_of(place) != before
    assert load_data(DataConfig(name="folder", root=place), home / "cache").fingerprint != table.fingerprint


def test_what_is_no_file_has_no_stamp_and_a_part_has_its_file_s(tmp_path):
    (tmp_path / "a#b").write_bytes(b"12")
    (tmp_path / "x.npz").write_bytes(b"123")
    (tmp_path / "folder").mkdir()
    (tmp_path / "a#b.npy").write_bytes(b"1234")
    names = ["a#b", "a#b.npy#7", "x.npz#image=3", "folder", "y" * 300, "\0", "\udcff", "", "x.npz/y", "0/1/abc"]
    found = file_stamps(names, DataConfig(name="folder", root=str(tmp_path)))
    assert {name: stamp.size for name, stamp in found.items()} == {"a#b": 2, "a#b.npy#7": 4, "x.npz#image=3": 3}
    assert all(stamp.digest for stamp in found.values())


def test_of_many_small_files_the_contents_are_not_read(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(stamps_module, "MOST_READ", 2)
    assert {stamp.digest for stamp in file_stamps("abc", DataConfig(name="folder", root=str(tmp_path))).values()} == {""}


def test_it_says_where_changes_cannot_be_seen(tmp_path, monkeypatch, caplog):
    root = make_root(tmp_path / "root", 300)
    place_of(root)
    assert "cannot be detected" not in caplog.text
    monkeypatch.setattr("mm_ray.data.load.file_stamps", lambda names, data: {"a/0.wav": Stamp(5, None)})
    place_of(root)
    assert f"--data.root {root}: changed recordings cannot be detected there; then remove cache/folder-" in caplog.text


def test_root_identity():
    assert root_identity("") == ""
    assert root_identity("mock:///a") == "mock:a"


def test_changed(tmp_path):
    data = DataConfig(name="folder", root=str(tmp_path))
    for name in ("same", "touched", "resized", "rewritten", "gone"):
        (tmp_path / name).write_bytes(b"12")
    before = origin_of([path.name for path in tmp_path.iterdir()], data)
    (tmp_path / "gone").unlink()
    (tmp_path / "resized").write_bytes(b"123")
    (tmp_path / "rewritten").write_bytes(b"21")
    os.utime(tmp_path / "touched", (THEN, THEN))
    os.utime(tmp_path / "rewritten", (THEN, THEN))
    assert sorted(changed(before, data)) == ["resized", "rewritten"]


def test_a_prepared_store_is_gone_on_with_for_the_same_recordings_only(tmp_path, capsys):
    roots = [make_root(tmp_path / name, hz) for name, hz in (("one", 300), ("copy", 300), ("other", 400))]
    for path in roots[1].rglob("*.wav"):
        os.utime(path)
    write_wav(roots[0] / "a" / "cut.wav", tone(500, 0.2, 8000), 8000)
    whole = (roots[0] / "a" / "cut.wav").read_bytes()
    (roots[0] / "a" / "cut.wav").write_bytes(whole[:100])
    flags = ["--out", str(tmp_path / "store"), "--serial", "--max-rejected=1"]
    main(["folder", str(roots[0]), *flags])
    (roots[0] / "a" / "cut.wav").write_bytes(whole)  # mended: it was not stored, so it is no change
    main(["folder", str(roots[0]), *flags])
    assert "1  stored now" in capsys.readouterr().out
    (roots[1] / "a" / "cut.wav").write_bytes(whole)
    main(["folder", str(roots[1]), *flags])
    (roots[2] / "a" / "cut.wav").write_bytes(whole)
    with pytest.raises(UserError, match=r"store: 6 recordings differ from those that it was prepared from, such as a/0.wav;"):
        main(["folder", str(roots[2]), *flags])


def test_a_tilde_in_a_name_is_a_letter_unless_somebody_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~.wav", "~nobody-of-this-name/x.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
        with open_binary(name) as file:
            assert file.read() == name.encode()
