"""Results on disk, with the machine, the versions, the command and the date, and as tables."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.systems import BLAZEFL, PEERS

FOLDER = Path(__file__).resolve().parent / "results"
OURS = ("torch", "ray", "numpy", "pyarrow")
THEIRS = ("torch", "flwr", "pfl", "ray")


def write_result(name: str, content: Mapping[str, Any]) -> Path:
    """Write `results/NAME.json`."""
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({"made": made(), **content}, indent=1) + "\n")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file with a JSON object per line; none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row: what is finished stays when the benchmark is stopped."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def made() -> dict[str, Any]:
    """Where, when, with what and by which command."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": "python -m " + " ".join([_module(), *sys.argv[1:]]),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "memory_gb": round(_memory_gb(), 1), "gpu": _gpu()},
        "load": [round(value, 1) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in OURS},
        "versions_of_peers": _peers(),
    }


def _module() -> str:
    main = sys.modules["__main__"]
    return main.__spec__.name if main.__spec__ else Path(sys.argv[0]).name


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _peers() -> dict[str, str] | None:
    found: dict[str, str] = {}
    for folder, names in ((PEERS, THEIRS), (BLAZEFL, ("blazefl",))):
        if (folder / "python").exists():
            code = f"from importlib.metadata import version; import json; print(json.dumps({{n: version(n) for n in {names}}}))"
            found |= json.loads(subprocess.run([folder / "python", "-c", code], capture_output=True, check=True).stdout)
    return found or None


def table_text(name: str, found: Mapping[str, Any]) -> str:
    """A workload's figures for people."""
    lines = [
        f"\n{name}: {found['clients']} clients, {found['cohort']} a round, {found['parameters']} parameters; losses "
        + ", ".join(f"{who} {loss:.3f}" for who, loss in found["losses"].items()),
        f"{'system':<8}{'s/round':>10}{'least':>10}{'CPU s':>9}{'ours of it':>12}{'(quartiles)':>16}{'peak MB':>9}"
        f"{'to round 1, s':>15}",
    ]
    for system, s in found["systems"].items():
        low, high = s["ours_of_it_quartiles"]
        to_first = "-" if s["start_to_round_1_s"] is None else f"{s['start_to_round_1_s']:.1f}"
        lines.append(
            f"{system:<8}{s['median_s']:>10.4f}{s['least_s']:>10.4f}{s['cpu_s']:>9.3f}{s['ours_of_it']:>12.3f}"
            f"{f'{low:.2f}-{high:.2f}':>16}{s['peak_mb']:>9.0f}{to_first:>15}"
        )
    return "\n".join(lines)
