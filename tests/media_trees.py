"""Miniature trees of data sets with their real naming; a name of `mm_ray/data/datasets` -> who builds it."""

import csv as csv_files
import json
import shutil

import pytest
from media_files import tone, write_film, write_picture, write_wav

SPEECH = {"ANG": 300, "DIS": 400, "FEA": 500, "HAP": 600, "NEU": 700, "SAD": 800}


def folder(root):
    """Two classes, five groups each, which are subfolders."""
    for label, lowest in (("cat", 300), ("dog", 310)):
        for group in range(5):
            write_film(root / label / f"{label}{group}" / "a.mp4", seconds=1.2, hz=lowest + 40 * group)
    return {"root": str(root)}


def csv(root):
    """Sound with a picture, sound with a video, both in one file; two folds."""
    splits = ("train", "train", "train", "val", "test")
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv_files.writer(file)
        table.writerow(["audio", "path", "video", "image", "label", "group", "split_0", "split_1", "start", "end"])
        for label, hz in (("bell", 900), ("horn", 250)):
            for speaker in range(5):
                name, both = f"{label}/{speaker}", (splits[speaker], splits[speaker - 1])
                write_wav(root / f"{name}.wav", tone(hz + speaker, 1.5, 8000), 8000)
                write_picture(root / f"{name}.png", colour=(speaker * 40, 0, 200))
                write_film(root / f"{name}.mp4", seconds=2, hz=hz + speaker)
                who = f"speaker{speaker}"
                table.writerow([f"{name}.wav", "", "", f"{name}.png", label, who, *both, "", ""])
                table.writerow([f"{name}.wav", "", f"{name}.mp4", "", label, who, *both, "0.25", "1.25"])
                table.writerow(["", f"{name}.mp4", "", "", label, who, *both, "", ""])
    return {"root": str(root)}


def ucf101(root):
    """Two classes with audio, one without; five groups of two clips; the official lists."""
    groups = range(1, 8)
    names = {
        label: [f"{label}/v_{label}_g{group:02d}_c{clip:02d}.avi" for group in groups for clip in (1, 2)]
        for label in ("ApplyEyeMakeup", "Archery", "BandMarching")
    }
    for index, name in enumerate(name for files in names.values() for name in files):
        write_film(root / "UCF-101" / name, seconds=1, hz=400 + 10 * index, sound="Archery" not in name)
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("".join(f"{i} {label}\n" for i, label in enumerate(names, start=1)))
    for fold in (1, 2, 3):
        tests = {f"_g{2 * fold - 1:02d}_", f"_g{2 * fold:02d}_"}
        held_out = [n for files in names.values() for n in files if any(test in n for test in tests)]
        (lists / f"testlist{fold:02d}.txt").write_text("".join(f"{name}\n" for name in held_out))
        train = [f"{n} {i}\n" for i, files in enumerate(names.values(), start=1) for n in files if n not in held_out]
        (lists / f"trainlist{fold:02d}.txt").write_text("".join(train))
    return {"root": str(root)}


def activitynet(root):
    """Videos of eight seconds with one or two segments; two were never downloaded; the test set has no annotations."""
    database = {}
    for index in range(12):
        video = f"--{index:02d}abcdefg"[:11]
        label = ("Archery", "Playing violin")[index % 2]
        segments = [{"segment": [1.0, 3.0], "label": label}, {"segment": [4.5, 6.25], "label": label}]
        subset = "validation" if index >= 8 else "training"
        database[video] = {"duration": 8.0, "subset": subset, "url": "", "resolution": "64x48", "annotations": segments}
        if index not in (5, 9):
            form = ("mp4", "webm", "mkv")[index % 3]
            write_film(root / subset / f"v_{video}.{form}", seconds=8, fps=5, hz=300 + 20 * index)
    database["zzzzzzzzzzz"] = {"duration": 8.0, "subset": "testing", "url": "", "resolution": "64x48", "annotations": []}
    content = {"version": "VERSION 1.3", "taxonomy": [], "database": database}
    (root / "activity_net.v1-3.min.json").write_text(json.dumps(content))
    return {"root": str(root)}


def crema_d(root):
    """Six actors, two sentences, all six emotions."""
    for actor in range(1001, 1007):
        for voice, sentence in enumerate(("DFA", "IEO"), start=2 * actor - 2000):
            for emotion, lowest in SPEECH.items():
                hz = lowest + voice
                name = f"{actor}_{sentence}_{emotion}_{'XX' if emotion != 'ANG' else 'HI'}"
                write_wav(root / "AudioWAV" / f"{name}.wav", tone(hz, 0.5, 16_000))
                if emotion in ("ANG", "HAP", "NEU", "SAD"):
                    write_film(root / "VideoFlash" / f"{name}.flv", seconds=1, fps=5, hz=hz)
    return {"root": str(root)}


def ravdess(root):
    """The official archive: all actors and emotions once; what does not belong there, and a file in two folders."""

    def place(name):
        folder = "Video_Speech_Actor" if name[0:2] != "03" else "Audio_Speech_Actors_01-24/Actor"
        video = name[0:2] != "03"
        return root / f"{folder}_{name[-2:]}" / (f"Actor_{name[-2:]}" if video else "") / f"{name}.{'mp4' if video else 'wav'}"

    def heard(name, hz):
        write_wav(place(name), tone(hz, 0.2, 16_000))

    for actor in range(1, 25):
        for emotion in range(1, 9):
            name, hz = f"01-{emotion:02d}-01-01-01-{actor:02d}", 200 + 10 * actor + 300 * emotion
            if actor != 3:
                heard(f"03-{name}", hz)
            if actor in (1, 3):
                write_film(place(f"01-{name}"), seconds=0.5, fps=5, hz=hz)
                write_film(place(f"02-{name}"), seconds=0.5, fps=5, sound=False)
    write_film(place("02-01-05-01-01-02-01"), seconds=0.5, fps=5, sound=False)
    for name in ("03-02-05-01-01-01-01", "03-01-09-01-01-01-01", "03-01-05-01-01-01-25", "happy"):
        heard(name, 150)
    write_wav(root / "copy" / "03-01-01-01-01-01-02.wav", tone(520, 0.2, 16_000))
    return {"root": str(root)}


def hf_dataset(root):
    """A DatasetDict as save_to_disk writes it: sound, a picture of each clip, and the speaker."""
    datasets = pytest.importorskip("datasets", reason="needs mm-ray[datasets]")
    types = {"audio": datasets.Audio(), "image": datasets.Image(), "label": datasets.ClassLabel(names=["horn", "bell"])}
    features = datasets.Features({**types, "group": datasets.Value("string")})
    parts = {}
    for split, speakers in (("train", (0, 1, 2)), ("validation", (3,)), ("test", (4,))):
        rows = []
        for label, hz in enumerate((250, 900)):
            for speaker in speakers:
                name = root / "media" / f"{label}{speaker}"
                write_wav(name.with_suffix(".wav"), tone(hz + speaker, 1.5, 8000), 8000)
                write_picture(name.with_suffix(".png"), colour=(speaker * 40, 0, 200))
                files = {"audio": name.with_suffix(".wav"), "image": name.with_suffix(".png")}
                cells = {column: {"bytes": path.read_bytes(), "path": path.name} for column, path in files.items()}
                rows.append({**cells, "label": label, "group": f"speaker{speaker}"})
        parts[split] = datasets.Dataset.from_list(rows).cast(features)  # encoding a path would need torchcodec
    datasets.DatasetDict(parts).save_to_disk(str(root / "saved"), num_shards={"train": 2, "validation": 1, "test": 1})
    shutil.rmtree(root / "media")
    return {"root": str(root / "saved")}


TREES = {
    "hf_dataset": hf_dataset,
    "folder": folder,
    "csv": csv,
    "ucf101": ucf101,
    "activitynet": activitynet,
    "crema_d": crema_d,
    "ravdess": ravdess,
}
"""Each gives the fields of `DataConfig` that find what it built."""
