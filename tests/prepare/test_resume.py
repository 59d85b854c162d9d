"""A store that was stopped goes on, does only what is missing, and refuses to be mixed."""

import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from media_files import tone, write_wav

from mm_ray.config import DataConfig
from mm_ray.data.load import load_data
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main


@pytest.fixture
def root(tmp_path):
    for label in ("a", "b"):
        for index in range(10):
            write_wav(tmp_path / "root" / label / f"{index}.wav", tone(300 + 10 * index + ord(label), 1, 8000), 8000)
    return tmp_path / "root"


def arguments(root, store, *flags):
    return ["folder", str(root), "--out", str(store), "--serial", "--shard-clips", "2", *flags]


def fingerprint(store):
    return load_data(DataConfig(name=str(store)), "unused").fingerprint


def stamps(store):
    return {path.name: path.stat().st_mtime_ns for path in store.glob("part-*")}


def num_stored_now(capsys):
    line = next(line for line in capsys.readouterr().out.splitlines() if "stored now" in line)
    return int(line.split()[0])


def test_killed_and_gone_on_is_the_same_store(root, tmp_path, capsys):
    main(arguments(root, tmp_path / "whole"))
    killed = tmp_path / "killed"
    slow = (
        "import sys, time; import mm_ray.data.prepare as work; real = work.extract\n"
        "def extract(*arguments):\n    time.sleep(0.1)\n    return real(*arguments)\n"
        "work.extract = extract\n"
        "from mm_ray.prepare.__main__ import main; main(sys.argv[1:])"
    )
    process = subprocess.Popen([sys.executable, "-c", slow, *arguments(root, killed)])
    deadline = time.monotonic() + 120
    while len(list(killed.glob("part-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = stamps(killed)
    assert 3 <= len(before) < 10
    with pytest.raises(UserError, match="is not a finished store"):
        fingerprint(killed)
    capsys.readouterr()
    main(arguments(root, killed))
    assert num_stored_now(capsys) == 20 - 2 * len(before)
    assert before.items() <= stamps(killed).items()
    assert fingerprint(killed) == fingerprint(tmp_path / "whole")
    assert not [path for path in killed.iterdir() if path.name.startswith(".part-") and path.stat().st_size == 0]


def test_a_second_run_does_nothing(root, tmp_path, capsys):
    store = tmp_path / "store"
    main(arguments(root, store))
    before, first = stamps(store), fingerprint(store)
    capsys.readouterr()
    main(arguments(root, store))
    assert num_stored_now(capsys) == 0
    assert (stamps(store), fingerprint(store)) == (before, first)


def test_rejected_clips_are_tried_again(root, tmp_path, capsys):
    good = (root / "b" / "3.wav").read_bytes()
    (root / "b" / "3.wav").write_bytes(good[:4000])
    store = tmp_path / "store"
    main(arguments(root, store))
    assert pq.read_table(store / "rejected.parquet")["reason"].to_pylist() == ["truncated"]
    (root / "b" / "3.wav").write_bytes(good)
    capsys.readouterr()
    main(arguments(root, store))
    assert num_stored_now(capsys) == 1
    assert pq.read_table(store / "rejected.parquet").num_rows == 0
    main(arguments(root, tmp_path / "whole"))
    assert fingerprint(store) == fingerprint(tmp_path / "whole")


def test_the_size_of_shards_does_not_matter(root, tmp_path):
    main(arguments(root, tmp_path / "small"))
    main([*arguments(root, tmp_path / "large"), "--shard-clips", "5"])
    assert len(stamps(tmp_path / "small")) > len(stamps(tmp_path / "large"))
    assert fingerprint(tmp_path / "small") == fingerprint(tmp_path / "large")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--data.features.num_mels", "40"], r"^--data.features.num_mels 40: .* was prepared with 80"),
        (["--data.features.fps", "2"], r"^--data.features.fps 2.0: .* was prepared with 1.0"),
        (["--classes", "a"], r"^--classes a: .* was prepared with a,b"),
    ],
)
def test_another_setting_is_refused(root, tmp_path, flags, problem):
    store = tmp_path / "store"
    main(arguments(root, store))
    before = stamps(store)
    with pytest.raises(UserError, match=problem):
        main(arguments(root, store, *flags))
    assert stamps(store) == before
    assert fingerprint(store)


def test_another_data_set_is_refused(root, tmp_path):
    store = tmp_path / "store"
    main(arguments(root, store))
    (root / "a" / "0.wav").unlink()
    with pytest.raises(UserError, match=r"holds clip a/0.wav, which the data set no longer lists"):
        main(arguments(root, store))
    (root / "manifest.csv").write_text("path,label,id\na/1.wav,a,a/1.wav\nb/1.wav,b,b/1.wav\n")
    with pytest.raises(UserError, match=r"^SOURCE csv: .* was prepared with folder"):
        main(["csv", *arguments(root, store)[1:]])


def test_a_changed_label_is_refused(tmp_path):
    write_wav(tmp_path / "a.wav", tone(300, 1, 8000), 8000)
    write_wav(tmp_path / "b.wav", tone(400, 1, 8000), 8000)
    table = tmp_path / "manifest.csv"
    table.write_text("path,label,split\na.wav,x,train\nb.wav,y,train\n")
    main(["csv", str(tmp_path), "--out", str(tmp_path / "store"), "--serial"])
    table.write_text("path,label,split\na.wav,x,test\nb.wav,y,train\n")
    with pytest.raises(UserError, match=r"splits of clip a.wav was \['train'\] and is now \['test'\]; prepare a new store"):
        main(["csv", str(tmp_path), "--out", str(tmp_path / "store"), "--serial"])


def test_a_data_set_may_grow(tmp_path, capsys):
    def build(count):
        for split in ("train", "test"):
            for index in range(count):
                for label in ("a", "b"):
                    hz = 300 + 20 * index + 7 * (label == "b") + 3 * (split == "test")
                    write_wav(tmp_path / "root" / split / label / f"{index}.wav", tone(hz, 1, 8000), 8000)

    build(2)
    main(arguments(tmp_path / "root", tmp_path / "store"))
    build(3)
    capsys.readouterr()
    main(arguments(tmp_path / "root", tmp_path / "store"))
    assert num_stored_now(capsys) == 4
    table = load_data(DataConfig(name=str(tmp_path / "store")), "unused")
    assert (table.num_clips, len(set(table.clip_ids_N.tolist()))) == (12, 12)


def test_a_folder_of_other_files_is_no_store(root, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"^--out .*: holds other files \(letter.txt, ...\); give a new or empty folder"):
        main(arguments(root, tmp_path / "home"))


def test_dry_run_counts_and_writes_nothing(root, tmp_path, capsys):
    (root / "b" / "again.wav").write_bytes((root / "b" / "3.wav").read_bytes())
    main(arguments(root, tmp_path / "store", "--dry-run"))
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("21 clips in 2 classes", "0 already stored", "1 rejected when listed", "20 to prepare", "minutes on 1 CPUs"):
        assert text in printed
    assert not (tmp_path / "store").exists()
