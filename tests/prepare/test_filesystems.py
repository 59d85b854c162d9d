"""ROOT and store on pyarrow file systems: a URI of local files, and one in memory."""

import pytest
from media_files import tone, write_film, write_wav

from mm_ray.config import DataConfig
from mm_ray.data.load import load_data
from mm_ray.prepare.__main__ import main
from mm_ray.storage import locate, names_in


@pytest.fixture
def root(tmp_path):
    """Films and sounds, one of them cut off, one twice, and a file that is passed over."""
    for label, hz in (("a", 300), ("b", 600)):
        for index in range(3):
            write_film(tmp_path / "root" / label / f"{index}.mp4", seconds=1, hz=hz + index)
        write_wav(tmp_path / "root" / label / "x.wav", tone(hz, 1, 8000), 8000)
    whole = (tmp_path / "root" / "a" / "0.mp4").read_bytes()
    (tmp_path / "root" / "a" / "cut.mp4").write_bytes(whole[:2000])
    (tmp_path / "root" / "b" / "again.mp4").write_bytes(whole)
    (tmp_path / "root" / "b" / "notes.txt").write_text("passed over")
    return tmp_path / "root"


def prepare(root, out, capsys, *flags):
    capsys.readouterr()
    main(["folder", str(root), "--out", str(out), "--serial", "--max-rejected", "0.5", *flags])
    return " ".join(capsys.readouterr().out.split())


def fingerprint(store):
    return load_data(DataConfig(name=str(store)), "unused").fingerprint


def test_uris_of_local_files_and_of_memory_give_the_same_store(root, tmp_path, capsys):
    prepare(root, tmp_path / "store", capsys)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in files:
        filesystem, place = locate(f"mock:///{root.name}/{path.relative_to(root)}")
        filesystem.create_dir(place.rpartition("/")[0])
        with filesystem.open_output_stream(place) as file:
            file.write(path.read_bytes())
    for source, out in ((f"file://{root}", f"file://{tmp_path}/uri"), (f"mock:///{root.name}", "mock:///deep/store")):
        printed = prepare(source, out, capsys)
        assert "8 stored now" in printed
        assert "2 rejected" in printed
        assert "1 duplicate" in printed
        assert "1 truncated" in printed
        assert fingerprint(out) == fingerprint(tmp_path / "store")
        assert names_in(out)[-1] == "rejected.parquet"
        assert "0 stored now" in prepare(source, out, capsys)
        assert inspected(out, capsys) == inspected(tmp_path / "store", capsys)
        assert "inspect.html" in names_in(out)


def inspected(store, capsys):
    capsys.readouterr()
    main(["--inspect", str(store)])
    return capsys.readouterr().out.splitlines()[1:-1]  # the first and the last name the store
