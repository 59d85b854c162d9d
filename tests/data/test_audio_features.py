"""Audio features of the user's own: `data.features.audio mine.py:thing`, from the store to a prediction."""

import json
from pathlib import Path

import numpy as np
import pytest
from media_files import tone, write_wav
from own_code import forget

import mm_ray
from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.audio_features import audio_identity, compute_audio, find_function
from mm_ray.data.feature_store import shards
from mm_ray.data.feature_store_reader import read_header
from mm_ray.data.load import load_data
from mm_ray.data.media.errors import MediaError
from mm_ray.errors import UserError
from mm_ray.export.subject import subject_of
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.onnx_export import check_features
from mm_ray.models.student import load_student, save_student
from mm_ray.predict import main as predict
from mm_ray.prepare.__main__ import main as prepare
from mm_ray.seeding import torch_stream
from mm_ray.testing import check_feature, encoder_case

RATE = 16_000
OWN = """
import numpy as np

def loudness(waveform, sample_rate):
    \"\"\"Mean and maximum of each half second.\"\"\"
    step = sample_rate // 2
    parts = [waveform[start : start + step] for start in range(0, len(waveform), step)]
    return np.array([(abs(part).mean(), abs(part).max()) for part in parts])

def length(waveform, sample_rate): return np.array([[len(waveform), sample_rate]])
def many(waveform, sample_rate): return np.ones((900, 2))
def flat(waveform, sample_rate): return waveform
def nothing(waveform, sample_rate): return np.zeros((0, 3))
def much(waveform, sample_rate): return np.full((3, 2), 1e6)
def broken(waveform, sample_rate): return 1 / 0
def as_wide_as_long(waveform, sample_rate): return np.ones((2, len(waveform) // 100))
def random(waveform, sample_rate): return np.random.default_rng().normal(size=(2, 3))
def changes(waveform, sample_rate):
    waveform += 1
    return waveform[:2, None]
def colour(frames): return frames.mean((1, 2)) / 255
def size(frames): return frames.reshape(len(frames), -1)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN)
    find_function.cache_clear()
    yield tmp_path
    find_function.cache_clear()
    forget(tmp_path)


def of(function):
    return FeatureConfig(audio=f"mine.py:{function}")


def test_the_function_gets_the_clip_at_the_rate_of_the_settings(here):
    waveform_N = tone(440, 1.0, 8000)
    got = compute_audio(waveform_N, 8000, FeatureConfig(audio="mine.py:length", sample_rate=RATE), "a")
    assert got.tolist() == [[16_000, 16_000]]
    got = compute_audio(np.tile(waveform_N, 2), 8000, FeatureConfig(audio="mine.py:length", max_frames=4), "a")  # 100 ms
    assert got.tolist() == [[1_600, 16_000]]
    assert compute_audio(waveform_N, 8000, of("many"), "a").shape == (500, 2)
    silence_N = np.zeros(RATE, np.float32)
    assert compute_audio(silence_N, RATE, of("changes"), "a").tolist() == [[1], [1]]
    assert not silence_N.any()


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("flat", r"returned shape \(16000,\) for 16000 samples; return \(T, F\)"),
        ("nothing", r"returned shape \(0, 3\)"),
        ("much", "returned numbers that are not finite as float16"),
        ("broken", r"fails \(.*mine.py:\d+: ZeroDivisionError: .*\); correct the module"),
        ("missing", "mine.py has no function missing"),
    ],
)
def test_mistakes_of_a_function(here, function, problem):
    with pytest.raises(UserError, match=rf"^--data.features.audio mine.py:{function}: {problem}"):
        compute_audio(tone(440, 1.0, RATE), RATE, of(function), "a")


def test_a_recording_without_anything_to_hear_is_the_recording_s_fault(here):
    for waveform_N, reason in ((tone(440, 0.05, RATE), "too_short"), (np.full(RATE, np.nan, np.float32), "damaged")):
        with pytest.raises(MediaError) as caught:
            compute_audio(waveform_N, RATE, of("loudness"), "a.wav")
        assert caught.value.reason == reason
    assert len(compute_audio(tone(440, 0.06, RATE), RATE, of("loudness"), "a.wav")) == 1


def test_an_edit_is_another_identity_and_refuses_to_mix(here):
    for label in ("low", "high"):
        write_wav(here / "root" / label / "0.wav", tone(440 if label == "low" else 600, 1.2, RATE))
    flags = ["folder", "root", "--out", "store", "--serial", "--data.features.audio", "mine.py:loudness"]
    prepare(flags)
    table = load_data(DataConfig(name=str(here / "store")), "unused")
    assert table.audio_flat_XF.shape == (6, 2)
    np.testing.assert_allclose(table.audio_flat_XF[:, 1], 0.5, atol=1e-3)
    first = audio_identity(of("loudness"))
    assert first.startswith("mine.py:loudness ")
    assert read_header(shards(here / "store")).settings.audio_identity == first
    Path("mine.py").write_text(OWN.replace(".mean()", ".mean() * 2"))
    forget(here)
    find_function.cache_clear()
    assert audio_identity(of("loudness")) != first
    write_wav(here / "root" / "low" / "1.wav", tone(300, 1.0, RATE))
    with pytest.raises(UserError, match=r"^--data.features.audio 'mine.py:loudness \w+': store was prepared with mine.py:loud"):
        prepare(flags)


@pytest.fixture
def student(here):
    """A student of `loudness`, untrained."""
    case = encoder_case("mlp", "audio", features=2)
    params = {part: init_part(part, case.model, case.shapes, torch_stream(0, part)) for part in PARTS["audio"]}
    (here / "run").mkdir()
    return save_student(here / "run", params, case.model, case.shapes, ("a", "b", "c", "d"), of("loudness"))


def test_prediction_runs_the_code_that_is_given(student, here, capsys):
    write_wav(here / "long.wav", tone(440, 12.0, RATE))
    predict([str(student), "long.wav", "--features", "mine.py:loudness", "--windows", "--json"])
    begins = [json.loads(line)["start_s"] for line in capsys.readouterr().out.splitlines()]
    assert begins == pytest.approx([0, 2.0], abs=0.03)
    classifier = mm_ray.load_student(here / "run", features="mine.py:loudness")
    assert classifier.predict(here / "long.wav").windows[0].start_s == 0
    assert len(classifier.predict(tone(440, 1.0, RATE), RATE).windows) == 1


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("", r"^STUDENT .*: its audio feature mine.py:loudness is code of its own; give it with --features mine.py:loudness"),
        ("mine.py:missing", "^--features mine.py:missing: mine.py has no function missing"),
        ("nowhere.py:loudness", "^--features nowhere.py: no such file"),
        ("mine.py", "^--features mine.py: mine.py has no function named"),
    ],
)
def test_code_that_is_not_given_is_one_line(student, given, line):
    with pytest.raises(UserError, match=line):
        load_student(student, own_features=given)


def test_code_of_another_width_is_refused(student, here):
    write_wav(here / "a.wav", tone(440, 1.0, RATE))
    Path("other.py").write_text("import numpy as np\ndef three(waveform, rate): return np.ones((2, 3))\n")
    classifier = mm_ray.load_student(here / "run", features="other.py:three")
    with pytest.raises(UserError, match=r"^--data.features.audio other.py:three: gives 3 numbers per frame, .* takes 2"):
        classifier.predict(here / "a.wav")


def test_export_refuses_before_anything_is_read(student, here):
    line = r"^--data.features.audio mine.py:loudness: cannot be written as ONNX: they are code of your own; only log_mel and"
    with pytest.raises(UserError, match=line):
        subject_of(here / "run")  # which has no config.yaml
    with pytest.raises(UserError, match=line):
        check_features(of("loudness"))


@pytest.mark.parametrize(
    ("function", "modality", "fault"),
    [
        ("loudness", "audio", None),
        ("as_wide_as_long", "audio", r"gives \[9, 160, 1600\] numbers per frame, depending on the clip"),
        ("random", "audio", "gives other features the second time"),
        ("colour", "video", None),
        ("size", "video", r"gives \[9216, 12288, 32400\] numbers per frame"),
    ],
)
def test_the_check_of_a_feature_names_its_fault(here, function, modality, fault):
    if fault is None:
        check_feature(f"mine.py:{function}", modality)
        return
    with pytest.raises(AssertionError, match=fault):
        check_feature(f"mine.py:{function}", modality)
