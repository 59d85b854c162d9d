"""The results of `benchmarks.prepare` as a page."""

from statistics import median
from typing import Any

WHO = ("bare", "prepare")
QUIET_CORES = 0.3


def text_of(found: dict[str, Any]) -> str:
    return "\n".join([*_head(found), *_speed(found), *_memory(found["memory"]), *_loading(found["loading"])]) + "\n"


def _head(found: dict[str, Any]) -> list[str]:
    made = found["made"]
    machine = made["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    return [
        "# `mm_ray.prepare`",
        f"`{made['command']}`, {made['date']}. {machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']} GB, shared",
        f"with other work; load at the end {', '.join(map(str, made['load']))}.",
        f"{made['system']}; {versions}.",
        "",
    ]


def _speed(found: dict[str, Any]) -> list[str]:
    quiet = [pair for pair in found["speed"] if max(pair[who]["cores_of_others"] for who in WHO) < QUIET_CORES]
    whole = found["whole_commands"]
    return [
        f"## {found['clips']} clips of 320 x 240, 4 to 11 s, half avi, half mp4",
        "The bare loop is one process with PyAV and torchaudio (`prepare_bare.py`, torch with one thread, its best). The",
        "preparation runs on a Ray that is up; its time holds listing, the search for duplicates, features and the writing",
        "of the store. Medians over pairs of both, one after the other; bar with 2 cores: 1.7.",
        "",
        "| pairs | bare, clips/s | `mm_ray.prepare`, clips/s | ratio (range) | bare, CPU ms a clip | `mm_ray.prepare` |",
        "|---|---|---|---|---|---|",
        _line(f"all {len(found['speed'])}", found["speed"]),
        _line(f"{len(quiet)} while others used less than {QUIET_CORES} cores", quiet)
        if quiet
        else "| none was quiet | | | | | |",
        "",
        "CPU time is that of all processes, Ray's too. Beside others' work several processes get a larger share of a machine",
        "than one does; CPU time says what free cores would do.",
        "Whole commands, with the start of Python, of Ray and of its workers: bare loop",
        f"{whole['bare_s']:.1f} s, `mm_ray.prepare` {whole['prepare_s']:.1f} s.",
        "",
    ]


def _line(name: str, pairs: list[dict[str, Any]]) -> str:
    speeds, by_cpu = (
        {who: median(pair[who]["clips"] / pair[who][what] for pair in pairs) for who in WHO} for what in ("seconds", "cpu_s")
    )
    ratios = [pair["bare"]["seconds"] / pair["prepare"]["seconds"] for pair in pairs]
    least_most = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    used = " | ".join(f"{1000 / by_cpu[who]:.0f}" for who in WHO)
    return f"| {name} | {speeds['bare']:.1f} | {speeds['prepare']:.1f} | {least_most} | {used} |"


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
