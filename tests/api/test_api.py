"""`import mm_ray`: light, documented, and the same runs and errors as the commands."""

import inspect
import resource
import subprocess
import sys

import numpy as np
import pytest
from fed.tiny import TINY, Run
from media_files import tone, write_wav

import mm_ray
import mm_ray.tune.space
from mm_ray import api
from mm_ray.training import RunProgress

IMPORT_S = 0.3


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def result(runs):
    return mm_ray.train(data="synthetic", method="modality_mirror", control=True, name="mine", runs=runs, **TINY)


def test_the_import_is_light():
    code = "import sys, mm_ray; print([n for n in ('torch', 'ray', 'optuna', 'pydantic', 'numpy') if n in sys.modules])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout == "[]\n"
    assert after.ru_utime - before.ru_utime < IMPORT_S


@pytest.mark.parametrize("name", [name for name in mm_ray.__all__ if name != "__version__"])
def test_every_name_is_there_and_documented(name):
    assert name in dir(mm_ray)
    assert inspect.getdoc(getattr(mm_ray, name))
    assert inspect.signature(getattr(mm_ray, name))


def test_a_module_of_the_same_name_can_still_be_called():
    assert mm_ray.tune.space.load_space("smoke").name == "smoke"
    assert inspect.signature(mm_ray.tune) == inspect.signature(api.tune)


def test_a_run_is_that_of_the_library(result, tmp_path):
    here = Run(tmp_path, control=True)
    assert result.params_digest == here.digest
    assert [(r.phase, r.round, dict(r.metrics)) for r in result.rounds] == here.metrics
    assert {role: vars(scores) for role, scores in result.test.items()} == here.result["test"]
    assert {role: {"top1": top1} for role, top1 in result.dev.items()} == here.result["dev"]
    assert result.best_round == here.result["best_round"]


def test_a_result_is_a_table_a_figure_and_a_matrix(result):
    table = result.to_pandas()
    assert len(table) == len(result.rounds) == 14
    assert table["dev/audio_top1"].max() >= result.dev["student"]
    matrix = result.confusion("student")
    assert matrix.to_numpy().trace() / matrix.to_numpy().sum() == pytest.approx(result.test["student"].top1)
    assert list(matrix.index) == list(matrix.columns) == list(result.class_names)
    lines = {line.name: list(line.y) for line in result.curves().data}
    assert max(lines["phase2/distill, audio"]) == result.dev["student"]
    assert f"<td>{result.test['student'].top1:.3f}</td>" in result._repr_html_()


def test_a_result_is_read_back_from_its_folder(result, runs):
    again = mm_ray.load_result(runs / "mine")
    assert again == result
    with pytest.raises(mm_ray.UserError, match="holds no result"):
        mm_ray.load_result(runs)


def test_the_same_call_takes_what_is_stored(result, runs, capsys):
    again = mm_ray.train(result.config, control=True, name="mine", runs=runs, progress=False)
    assert (again.rounds_computed, again.params_digest) == (0, result.params_digest)
    assert capsys.readouterr().out == ""


def test_interrupted_and_called_again_it_goes_on(tmp_path, monkeypatch):
    def interrupt(self, report):
        if report.phase == "phase1/fusion":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunProgress, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            mm_ray.train(runs=tmp_path, **TINY)
    done = mm_ray.train(runs=tmp_path, **TINY)
    assert done.rounds_reused == 4
    assert done.params_digest == Run(tmp_path / "alone").digest


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ({"phase2.temperature": -1}, "--phase2.temperature -1: must be above 0 (default: 2)"),
        ({"executor": "dask"}, "--executor dask: must be serial or ray"),
        ({"method": "harmonie"}, "--method harmonie: did you mean 'harmony'? "),
        ({"data": "nowhere/store"}, "--data.name nowhere/store: no such store"),
        ({"temprature": 2}, "--temprature 2: no such field; "),
    ],
)
def test_a_mistake_is_the_commands_line(tmp_path, call, line):
    with pytest.raises(mm_ray.UserError) as error:
        mm_ray.train(runs=tmp_path, **TINY | call)
    assert str(error.value).startswith(line)


def test_a_student_hears_files_and_samples_alike(result, tmp_path):
    student = mm_ray.load_student(result.folder)
    samples = (tone(440, 1.0, 16_000) * 32767).astype(np.int16)
    write_wav(tmp_path / "a.wav", samples / 32768, 16_000)
    heard = [
        student.predict(tmp_path / "a.wav"),
        student.predict(samples, 16_000),
        student.predict(np.stack([samples, samples]) / 32768, 16_000),
    ]
    assert {one.label for one in heard} == {heard[0].label}
    assert sum(heard[0].probabilities.values()) == pytest.approx(1)
    for one in heard[1:]:
        assert one.probabilities == pytest.approx(heard[0].probabilities, abs=1e-3)
    (window,) = heard[0].windows
    assert (window.label, window.start_s) == (heard[0].label, 0)
    assert window.end_s == pytest.approx(1, abs=0.05)
    long = student.predict(np.tile(samples, 30), 16_000)
    assert [one.start_s for one in long.windows] == sorted(one.start_s for one in long.windows)
    assert len(long.windows) > 1
    label = long.label
    assert long.probability == pytest.approx(np.mean([one.probabilities[label] for one in long.windows]))
    with pytest.raises(mm_ray.UserError, match=r"^sample_rate: "):
        student.predict(samples)


def test_a_comparison_in_this_process(tmp_path):
    table = mm_ray.compare(
        ["modality_mirror", "control_all"], seeds=2, video_missing=[0.25, 0.5], executor="serial", runs=tmp_path, **TINY
    )
    assert len(table.cells) == len(table.to_pandas()) == 8
    first = table.paired("control_all")[0]
    tops = {(row["method"], row["seed"]): row["top1"] for row in table.cells if row["video_missing"] == 0.25}
    gains = [tops["modality_mirror", seed] - tops["control_all", seed] for seed in (1, 2)]
    assert (first.regime, first.n, first.mean) == ((0.25, 5.0), 2, pytest.approx(np.mean(gains)))
    assert table.to_markdown().count("\n") == 4
    assert r"modality\_mirror & " in table.to_latex()
    assert table.report().exists()
    with pytest.raises(mm_ray.UserError, match=r"^--reference harmony: is no method of this comparison"):
        table.paired("harmony")


def test_a_folder_becomes_data(tmp_path):
    for number in range(10):
        write_wav(tmp_path / "root" / f"c{number % 2}" / f"{number}.wav", tone(300 + 30 * number, 0.5, 8000), 8000)
    store = mm_ray.prepare("folder", tmp_path / "root", tmp_path / "store", executor="serial", progress=False)
    assert mm_ray.load_data(store, runs=tmp_path).class_names == ("c0", "c1")


def temperatures(trial):
    return {"phase2.temperature": trial.suggest_float("phase2.temperature", 1, 16, log=True)}


@pytest.mark.slow
def test_a_study_of_a_function(tmp_path, local_ray):
    settings = {"trials": 2, "test_seeds": 0, "address": local_ray, "name": "s", "runs": tmp_path, "clients.num_cpus": 0.5}
    study = mm_ray.tune(temperatures, **settings, **TINY)
    assert study.best.score == study.optuna.best_value
    assert study.best.config.phase2.temperature == study.best.params["phase2.temperature"]
    assert len(study.trials_dataframe()) == 2
    assert study.report().exists()
    assert study.run.params_digest == mm_ray.train(study.best.config, runs=tmp_path).params_digest
    again = mm_ray.tune(temperatures, **settings, **TINY)
    assert again.best == study.best
