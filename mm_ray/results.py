"""What the functions of the Python API give back: typed records of a run, a study and a comparison, read from their folders.

pandas and plotly are imported when a table or a figure is asked for.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_ray.classifier import AudioClassifier
from mm_ray.config import ExperimentConfig
from mm_ray.errors import UserError, bad_value
from mm_ray.evaluate.statistics import compare_all, spread_text
from mm_ray.runtime.run_folder import stored_config
from mm_ray.storage import read_object
from mm_ray.types import RoundReport

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from optuna import Study

    from mm_ray.tune.run import FinishedStudy

REMEDY = "train again, and stored rounds are taken from the phase store"


@dataclass(frozen=True)
class Scores:
    """A network's scores on the test set, each in [0, 1]."""

    top1: float
    uar: float
    """Unweighted average recall: the mean over classes."""
    macro_f1: float


@dataclass(frozen=True)
class TrainResult:
    """A finished run. `test` and `dev` have an entry for each network that the run has: `student`, `teacher`, `phase1_audio`,
    and with `control=True` `control` and `control_all`.
    """

    folder: Path
    config: ExperimentConfig = field(repr=False)
    test: Mapping[str, Scores]
    """On the test set, at each network's best dev round."""
    dev: Mapping[str, float]
    """The dev top-1 by which that round was chosen."""
    rounds: Sequence[RoundReport] = field(repr=False)
    """Every round of every phase, in order."""
    class_names: tuple[str, ...]
    values: Mapping[str, Any] = field(repr=False)
    """All of `result.json` (docs/files.md)."""

    @property
    def best_round(self) -> int:
        """The student's best dev round in its phase."""
        return int(self.values["best_round"])

    @property
    def rounds_computed(self) -> int:
        """Rounds that this call computed, the controls' left out."""
        return int(self.values["rounds_computed"])

    @property
    def rounds_reused(self) -> int:
        """Rounds that the phase store had."""
        return int(self.values["rounds_reused"])

    @property
    def seconds(self) -> float:
        """Wall time of the rounds and the test."""
        return float(self.values["seconds"])

    @property
    def params_digest(self) -> str:
        """sha256 over the student's tensors: equal for equal students."""
        return str(self.values["params_digest"])

    def student(self, encoder: str = "", features: str = "") -> AudioClassifier:
        """The trained student.

        Args:
            encoder: Its encoder, if it is your own (`mine.py:thing`): its code runs.
            features: Its audio features, if they are your own: their code runs.

        Raises:
            UserError: The method has none, or its own code was not given.

        """
        if "student" not in self.test:
            raise bad_value("method", self.config.method, "has no student")
        return AudioClassifier.load(self.folder, encoder, features)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each round: `phase`, `round`, what it cost, and a column for each metric."""
        import pandas as pd

        rows = [{**report.to_json(), **report.metrics} for report in self.rounds]
        return pd.DataFrame(rows).drop(columns=["metrics", "refused"], errors="ignore")

    def confusion(self, role: str = "student") -> pd.DataFrame:
        """The confusion matrix on the test set, in clips: rows are the true classes, columns the predicted ones.

        Raises:
            UserError: The run has no such network.

        """
        import pandas as pd

        confusions = read_object(self.folder / "confusions.json", REMEDY)["confusions"]
        if role not in confusions:
            raise bad_value("role", role, f"this run has: {', '.join(confusions)}")
        names = list(self.class_names)
        return pd.DataFrame(confusions[role], pd.Index(names, name="true"), pd.Index(names, name="predicted"))

    def curves(self, metric: str = "top1") -> go.Figure:
        """Dev scores by round, phases one after the other.

        Args:
            metric: `top1`, `uar` or `macro_f1`.

        """
        import plotly.graph_objects as go

        figure, lines = go.Figure(), dict[tuple[str, str], list[tuple[int, float]]]()
        for number, report in enumerate(self.rounds, start=1):
            for name, value in report.metrics.items():
                if name.startswith("dev/") and name.endswith(f"_{metric}"):
                    lines.setdefault((report.phase, name), []).append((number, value))
        for (phase, name), points in lines.items():
            network = name.removeprefix("dev/").removesuffix(f"_{metric}")
            label = f"{phase}, {network}"
            figure.add_scatter(x=[x for x, _ in points], y=[y for _, y in points], name=label, mode="lines")
        return figure.update_layout(xaxis_title="round of the run", yaxis_title=f"{metric} on dev", template="plotly_white")

    def _repr_html_(self) -> str:
        cells = [[role, f"{s.top1:.3f}", f"{s.uar:.3f}", f"{s.macro_f1:.3f}"] for role, s in self.test.items()]
        text = f"{self.config.method} on {self.config.data.name}, seed {self.config.seed}; {self.folder}"
        return html_table(("on the test set", "top-1", "UAR", "macro-F1"), cells, text)


def read_result(folder: Path) -> TrainResult:
    """The result of a run, or of a study's chosen configuration.

    Raises:
        UserError: The folder holds no finished run.

    """
    if not (folder / "result.json").exists():
        raise UserError(f"{folder}: holds no result.json, so no finished run; give a folder below runs/")
    values = read_object(folder / "result.json", REMEDY)
    best = folder / "best.yaml"
    rounds = [RoundReport(**json.loads(line)) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    return TrainResult(
        folder,
        stored_config(best if best.exists() else folder / "config.yaml"),
        {role: Scores(**scores) for role, scores in values["test"].items()},
        {role: scores["top1"] for role, scores in values["dev"].items()},
        tuple(rounds),
        tuple(read_object(folder / "confusions.json", REMEDY)["class_names"]),
        values,
    )


@dataclass(frozen=True)
class ChosenTrial:
    """The trial that a study chose."""

    number: int
    score: float
    """The study's first objective on dev, such as top-1 of the student."""
    params: Mapping[str, Any]
    """Optuna's parameters."""
    overrides: Mapping[str, Any]
    """The config fields that they set."""
    config: ExperimentConfig = field(repr=False)
    """The complete config: `mm_ray.train(study.best.config)` trains it again."""


@dataclass(frozen=True)
class TuneResult:
    """A finished study."""

    folder: Path
    best: ChosenTrial
    test: Mapping[str, Sequence[float]]
    """Top-1 on the test set of the chosen configuration and of both controls: one for each test seed."""
    verdict: Sequence[str]
    """What may be claimed, a line each."""
    run: TrainResult = field(repr=False)
    """The chosen configuration's run with the first test seed, whose student is kept."""
    finished: FinishedStudy = field(repr=False)
    """The study and its conclusion, as `mm_ray.tune.run` works with them."""

    @property
    def optuna(self) -> Study:
        """Optuna's study, for its own tools."""
        return self.finished.optuna_study

    def trials_dataframe(self) -> pd.DataFrame:
        """A row for each trial: number, state, parameters, score, metrics, rounds and seconds."""
        import pandas as pd

        from mm_ray.tune.study_log import read_trials

        rows = [{**row, **row["params"], **row["metrics"]} for row in read_trials(self.folder)]
        return pd.DataFrame(rows).drop(columns=["params", "metrics", "overrides", "curve"], errors="ignore")

    def report(self) -> Path:
        """The page with the study's tables and figures."""
        return self.folder / "report.html"

    def student(self, encoder: str = "", features: str = "") -> AudioClassifier:
        """The chosen configuration's student, of the first test seed; `encoder` and `features` are those of your own."""
        return self.run.student(encoder, features)

    def _repr_html_(self) -> str:
        cells = [[role, spread_text(values)] for role, values in self.test.items()]
        params = ", ".join(f"{name} {value}" for name, value in self.best.params.items())
        text = " ".join([*self.verdict[:1], f"Best of the trials: number {self.best.number} ({params})."])
        return html_table(("top-1 on the test set", ""), cells, text)


def study_result(finished: FinishedStudy) -> TuneResult:
    """What a study's folder and its conclusion hold, as a record."""
    folder, found, run = finished.study.folder, finished.found, read_result(finished.study.folder)
    config = stored_config(folder / "best.yaml")
    best = ChosenTrial(found.row["number"], found.row["score"], found.row["params"], found.row["overrides"], config)
    return TuneResult(folder, best, found.test, found.verdict, run, finished)


@dataclass(frozen=True)
class PairedDifference:
    """A method minus a reference, over units that differ in the method only (`mm_ray.evaluate.statistics`)."""

    method: str
    reference: str
    regime: tuple[float, float] | None
    """Missing video and alpha; None for all regimes together."""
    n: int
    """Seeds, or folds where there are several."""
    mean: float
    low: float
    high: float
    """95 % confidence interval of the mean; NaN where n is 1."""
    wins: int
    """Of the n, how many in which the method is better."""
    p: float
    """Two-sided paired t-test; NaN where n is 1."""
    p_holm: float
    """The same, corrected for all tests of the list."""


@dataclass(frozen=True)
class CompareResult:
    """A finished comparison."""

    folder: Path
    cells: Sequence[Mapping[str, Any]] = field(repr=False)
    """A row for each run: `method`, `video_missing`, `alpha`, `seed`, `fold`, `top1`, `uar`, `macro_f1`, rounds, bytes, ...
    (docs/files.md).
    """

    @property
    def methods(self) -> list[str]:
        """The methods in their order."""
        return list(dict.fromkeys(row["method"] for row in self.cells))

    def paired(self, reference: str = "control_all", metric: str = "top1") -> list[PairedDifference]:
        """Each other method minus a reference, paired over seeds (or folds), for each regime and over all of them.

        Args:
            reference: One of the methods.
            metric: A column of `cells`: `top1`, `uar` or `macro_f1`.

        Raises:
            UserError: The comparison has no such method.

        """
        self._check_method(reference)
        tests = compare_all(self.cells, self.methods, [reference], metric)
        return [PairedDifference(t.method, t.other, t.regime, **asdict(t.result), p_holm=t.holm_p) for t in tests]

    def figure(self, reference: str = "", alpha: float | None = None) -> go.Figure:
        """Top-1 on the test set against the fraction of clients without video; or, of a reference, paired differences to it.

        Args:
            reference: One of the methods; empty shows the scores themselves.
            alpha: Of which regimes; None takes the first one's for the scores, and all regimes together for differences.

        Raises:
            UserError: The comparison has no such method, or nothing of this alpha.

        """
        from mm_ray.report.comparison import against_missing_video, forest, paired_records

        alphas = sorted({row["alpha"] for row in self.cells})
        if alpha is not None and alpha not in alphas:
            raise bad_value("alpha", alpha, f"is none of this comparison; it has: {', '.join(map(str, alphas))}")
        if not reference:
            return against_missing_video(self.cells, self.methods, alphas[0] if alpha is None else alpha)
        self._check_method(reference)
        records = paired_records([row for row in self.cells if alpha in (None, row["alpha"])], (reference,))
        return forest([one for one in records if one["video_missing"] is None] or records)

    def to_pandas(self) -> pd.DataFrame:
        """`cells` as a table."""
        import pandas as pd

        return pd.DataFrame(list(self.cells)).drop(columns=["per_class"], errors="ignore")

    def to_markdown(self) -> str:
        """Top-1 on the test set, mean ± standard deviation: a row for each method, a column for each regime."""
        from mm_ray.report.tables import markdown_table

        return markdown_table(*self._table())

    def to_latex(self) -> str:
        r"""The same as a `tabular` (with `\usepackage{booktabs}`)."""
        from mm_ray.report.tables import latex, latex_table

        head, rows = self._table()
        return latex_table(head, [[latex(cell) for cell in row] for row in rows], "l" + "r" * (len(head) - 1))

    def report(self) -> Path:
        """The page with the comparison's tables and figures."""
        return self.folder / "compare.html"

    def _check_method(self, reference: str) -> None:
        if reference not in self.methods:
            raise bad_value("reference", reference, f"is no method of this comparison; it has: {', '.join(self.methods)}")

    def _table(self) -> tuple[list[str], list[list[str]]]:
        regimes = sorted({(row["video_missing"], row["alpha"]) for row in self.cells})
        head = ["method", *(f"{missing:.0%} without video, alpha {alpha:g}" for missing, alpha in regimes)]
        return head, [[method, *(self._score(method, regime) for regime in regimes)] for method in self.methods]

    def _score(self, method: str, regime: tuple[float, float]) -> str:
        mine = [row for row in self.cells if row["method"] == method and (row["video_missing"], row["alpha"]) == regime]
        values = [row["top1"] for row in mine if row["top1"] is not None]
        return spread_text(values) if values else "–"

    def _repr_html_(self) -> str:
        head, rows = self._table()
        return html_table(head, rows, f"top-1 on the test set; {self.folder}")


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A small table for a notebook."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
