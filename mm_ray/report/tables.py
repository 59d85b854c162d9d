"""The paired table of a comparison for papers and notebooks: LaTeX (booktabs) and Markdown."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from mm_ray.evaluate.statistics import LEVEL
from mm_ray.report.pages import NONE

Record = Mapping[str, Any]
"""One paired test: `video_missing` and `alpha` (None for all regimes together), `method`, `reference`, `n`, `unit` (`seeds` or
`folds`), `mean`, `low`, `high`, `wins`, `p` and `p_holm`; None where it cannot be computed."""
HEAD = ("regime", "difference in top-1", "n", "mean", "95 % interval", "better in", "p", "p (Holm)")


def is_sure(record: Record) -> bool:
    """Whether a difference is significant after Holm's correction."""
    return record["p_holm"] is not None and record["p_holm"] < LEVEL


def cells(record: Record) -> list[str]:
    """A record's cells as plain text, in the order of `HEAD`."""
    interval = NONE if record["low"] is None else f"[{record['low']:+.3f}, {record['high']:+.3f}]"
    ps = [NONE if record[key] is None else f"{record[key]:.2g}" for key in ("p", "p_holm")]
    return [
        regime_text(record["video_missing"], record["alpha"]), f"{record['method']} − {record['reference']}",
        f"{record['n']} {record['unit']}", f"{record['mean']:+.3f}", interval, f"{record['wins']} of {record['n']}", *ps,
    ]  # fmt: skip


def regime_text(video_missing: float | None, alpha: float | None) -> str:
    """A regime for people."""
    return "all" if video_missing is None else f"video missing {video_missing:g}, alpha {alpha:g}"


def to_markdown(records: Sequence[Record]) -> str:
    """A table in Markdown; a difference that is significant after Holm's correction is bold."""
    rows = [[f"**{text}**" if i == 3 and is_sure(one) else text for i, text in enumerate(cells(one))] for one in records]
    return markdown_table(HEAD, rows)


def to_latex(records: Sequence[Record]) -> str:
    """A `tabular` for booktabs; a difference that is significant after Holm's correction is bold."""
    lines = [
        [rf"\textbf{{{text}}}" if i == 3 and is_sure(one) else text for i, text in enumerate(map(latex, cells(one)))]
        for one in records
    ]
    return latex_table(HEAD, lines, "llrrrrrr")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |\n" for line in lines)


def latex_table(head: Sequence[str], rows: Sequence[Sequence[str]], columns: str) -> str:
    """A `tabular` for booktabs.

    Args:
        head: Plain text.
        rows: LaTeX (`latex`).
        columns: Alignment of the columns, such as `lrr`.

    """
    body = "".join(f"{' & '.join(line)} \\\\\n" for line in rows)
    names = " & ".join(map(latex, head))
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{names} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"


LATEX = {
    "\\": r"\textbackslash{}",
    "−": "$-$",
    "±": r"$\pm$",
    NONE: "--",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def latex(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(LATEX.get(sign, sign) for sign in text)


def or_none(value: float) -> float | None:
    """NaN as None, since JSON has no NaN."""
    return None if isnan(value) else value
