"""The results of `benchmarks.prepare` as a page."""

from typing import Any


def text_of(found: dict[str, Any]) -> str:
    return "\n".join([*_head(found), *_speed(found), *_memory(found["memory"]), *_loading(found["loading"])]) + "\n"


def _head(found: dict[str, Any]) -> list[str]:
    made = found["made"]
    machine = made["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    idle = ", ".join(f"{run['idle_before']:.0%}" for run in found["speed"])
    return [
        "# `mm_ray.prepare`",
        f"`{made['command']}`, {made['date']}. {machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']} GB, shared",
        f"with other work: idle before the repeats {idle}; load at the end {', '.join(map(str, made['load']))}.",
        f"{made['system']}; {versions}.",
        "",
    ]


def _speed(found: dict[str, Any]) -> list[str]:
    middle = found["medians"]
    bare_ms, ours_ms = (1000 * middle[f"{who}_cpu_s_per_clip"] for who in ("bare", "prepare"))
    pairs = ", ".join(f"{ratio:.2f}" for ratio in middle["ratios"])
    cores = found["made"]["machine"]["cores"]
    return [
        f"## {found['clips']} clips of 320 x 240, 4 to 11 s, half avi, half mp4",
        "Medians. The bare loop is one process with PyAV and torchaudio (`prepare_bare.py`, torch with one thread, its best).",
        "The preparation runs on a Ray that is up; its time holds listing, the search for duplicates, features and the",
        "writing of the store. The whole command also starts Python and Ray and imports torch in each worker.",
        "",
        "| | clips/s | CPU ms per clip, all processes | whole command, s |",
        "|---|---|---|---|",
        f"| bare loop | {middle['bare_clips_per_s']:.1f} | {bare_ms:.0f} | {middle['bare_command_s']:.1f} |",
        f"| `mm_ray.prepare` | {middle['prepare_clips_per_s']:.1f} | {ours_ms:.0f} | {middle['prepare_command_s']:.1f} |",
        "",
        f"Ratio of clips/s: {middle['ratio']:.2f} (the pairs: {pairs}; bar with 2 cores: 1.7).",
        "Beside other work several processes get a larger share of a machine than one does, which favours the",
        f"preparation; by CPU time alone {cores} free cores would give at most {cores * bare_ms / ours_ms:.2f}.",
        "",
    ]


def _memory(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "## Peak memory of one clip",
        "H.264 and AAC, a key frame every 250 frames; above what the process had after a clip of 2 s.",
        "",
        "| film, s | MB | s |",
        "|---|---|---|",
        *(f"| {row['film_s']:,} | {row['peak_mb']:.1f} | {row['seconds']:.2f} |" for row in rows),
        "",
    ]


def _loading(runs: list[dict[str, Any]]) -> list[str]:
    last = runs[-1]
    actors = [actor for run in runs for actor in run["actors"]]
    copied = max(actor["bytes_copied"] for actor in actors)
    grown = max(actor["private_mb"] for actor in actors) - min(run["private_mb_of_an_actor_without_table"] for run in runs)
    return [
        f"## A store of {last['clips']:,} clips of 500 x 80 and 10 x 1280 float16, {last['features_mb']:,.0f} MB",
        "| run | read, s | into the object store, s | first batch on all actors, s from the start |",
        "|---|---|---|---|",
        *(f"| {i} | {r['read_s']} | {r['put_s']} | {r['to_first_batch_s']} |" for i, r in enumerate(runs, start=1)),
        "",
        f"Bytes of the table's arrays that an actor holds outside the object store: {copied:,}, of",
        f"{actors[0]['bytes_shared']:,} in it.",
        f"Private memory of an actor with the table above one without: {grown:.1f} MB at most.",
    ]
