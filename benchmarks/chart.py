"""The chart of the README from `results/rounds.json`: seconds per round of each system.

python -m benchmarks.chart
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER

IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "speed.svg"
COLORS = {"ours": "#2f6db3", "floor": "#9a9a9a", "pfl": "#c98b2b", "flower": "#c2527d"}
LABELS = {
    "ours": "mm_ray",
    "floor": "bare PyTorch, 2 processes",
    "pfl": "pfl-research, 2 processes",
    "flower": "Flower simulation",
}
TITLES = {"w1": "100 clients, 10 a round", "w2": "10,000 clients, 1,000 a round", "tiny": "tiny: 4 clips a client"}
WIDTH, BAR, GAP, LEFT, TOP, SCALE = 720, 18, 4, 190, 44, 400


def main() -> None:
    """Write the image."""
    workloads = json.loads((FOLDER / "rounds.json").read_text())["workloads"]
    shown = [name for name in TITLES if name in workloads]
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    IMAGE.write_text(svg([(TITLES[name], workloads[name]["systems"]) for name in shown]))
    print(IMAGE)


def svg(groups: list[tuple[str, Mapping[str, Any]]]) -> str:
    """Horizontal bars, one group a workload, each to the scale of its slowest system."""
    parts, y = [text(12, 24, "Seconds per round on two cores (shorter is better)", 15, "bold")], TOP
    for title, systems in groups:
        parts.append(text(12, y + 14, title, 13, "bold"))
        y += 22
        most = max(row["median_s"] for row in systems.values())
        for name, row in systems.items():
            parts += bar(y, name, row["median_s"], most)
            y += BAR + GAP
        y += 12
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="white"/>', *parts, "</svg>"]) + "\n"


def bar(y: int, name: str, seconds: float, most: float) -> list[str]:
    """A bar with its label and its value."""
    width = max(SCALE * seconds / most, 1)
    return [
        text(12, y + 13, LABELS[name], 12),
        f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLORS[name]}"/>',
        text(LEFT + width + 6, y + 13, f"{seconds:.3g} s", 12),
    ]


def text(x: float, y: float, words: str, size: int, weight: str = "normal") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}">{words}</text>'


if __name__ == "__main__":
    main()
