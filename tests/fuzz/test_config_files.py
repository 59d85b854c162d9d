"""Config files: any YAML, and real ones made worse, are a config or one line."""

from itertools import pairwise

import pytest
import yaml
from entry.process import run
from fed.tiny import tiny_config, tiny_flags
from fuzz.cases import CASES, judged, mutants
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_ray.cli import experiment_parser, parse
from mm_ray.config import FIELDS, ExperimentConfig
from mm_ray.errors import UserError
from mm_ray.runtime.run_folder import config_yaml

BOMB = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))
QUOTED_BOMB = "[&a [x], " + ", ".join(f"&{b} [" + ", ".join([f"*{a}"] * 9) + "]" for a, b in pairwise("abcdefgh")) + "]"
ODD_YAML = (
    "phase2: {temperature: 2026-01-01}",
    "phase2: {temperature: 2026-13-41}",
    "seed: !!set {1, 2}",
    "seed: !!binary aGk=",
    "seed: !!python/object/apply:os.system [ls]",
    "seed: !!int x",
    "? [1, 2]\n: 3",
    "phase2: {? {a: 1} : 2}",
    "phase2: {1: 2}",
    "phase2: [1]",
    "phase2:",
    "phase2: {local: 3}",
    "a: &a [1]\nb: *a",
    "a: *nothing",
    "seed: 1\n---\nseed: 2",
    "%YAML 9.9\n---\nseed: 1",
    "\t",
    "",
    "seed: '\\x00'",
    "method: 'os.path'",
    "method: '../x'",
    "method: '.'",
    "method: ''",
    "data: {name: json}",
    "data: {name: a.b.c}",
    "seed: " + "9" * 400,
    "seed: 1e400",
    "model: {conv_channels: [1, [2], null]}",
    "model: {conv_channels: 'x'}",
    "seed: " + "[" * 3_000,
    "seed: " + "{a: " * 3_000,
    BOMB,
    f"seed: '{QUOTED_BOMB}'",
    f"data: {{root: '{QUOTED_BOMB}'}}",
    f"phase2.temperature: '{QUOTED_BOMB}'",
    f"seed: '{'[' * 3_000}'",
    'phase1: \'{"class_path": "os.system"}\'',
    "phase1: os.system",
    "seed: [" + "1, " * 200_000 + "]",
    "model: {hidden: -3}",
    "model: {conv_channels: [0, 0, 0]}",
    "data: {features: {sample_rate: 1}}",
    "data: {features: {sample_rate: 44101}}",
    "data: {features: {video_size: 1000000}}",
)
TAKEN = [text for text in ODD_YAML if text.startswith(("method:", "data: {", "seed: 9")) and "features" not in text]
"""Names and places are looked up later, and a seed may be any whole number."""
NO_FIELDS = ("config", "help", "name", "runs", "space", "resume", "storage", "phase1", "data.features", "phase1.class_path")
"""Other flags, and groups."""
SHARE = (CASES["config"] - len(ODD_YAML)) // 2

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3))


def parsed(path):
    config, _ = parse(experiment_parser("mm_ray.train", ""), [f"--config={path}"])
    assert isinstance(config, ExperimentConfig)


def test_odd_yaml(tmp_path):
    path = tmp_path / "c.yaml"
    taken = []
    for text in ODD_YAML:
        path.write_text(text)
        taken += [text] if judged(lambda: parsed(path), path) else []
    assert taken == TAKEN


def test_real_configs_made_worse(tmp_path):
    path, good = tmp_path / "c.yaml", 0
    for text in mutants(config_yaml(tiny_config()).encode(), SHARE, seed=1):
        path.write_bytes(text)
        good += judged(lambda: parsed(path), path)
    assert 0 < good < SHARE, "some damage is none, some is"


@settings(max_examples=SHARE)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=6), values, max_size=3))
def test_any_values(tmp_path_factory, flat):
    tree = {}
    for name, value in flat.items():
        *groups, field = name.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[field] = value
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.dump(tree))
    judged(lambda: parsed(path), path)


def test_places_that_are_no_file(tmp_path):
    for place in (tmp_path, tmp_path / "nothing", "/dev/null", "a\0b"):
        assert not judged(lambda place=place: parsed(place))


@pytest.mark.parametrize("name", NO_FIELDS)
def test_a_config_file_sets_fields_alone(tmp_path, name):
    path = tmp_path / "c.yaml"
    path.write_text(f"{name}: lab")
    with pytest.raises(UserError, match=f"{name} is no config field"):
        parsed(path)


@pytest.mark.parametrize(
    "flag",
    ["model.hidden=-3", "model.conv_channels=[0,0,0]", "data.features.sample_rate=1", "data.features.sample_rate=44101",
     "data.features.video_size=1000000", "data.features.num_mels=3"],
)  # fmt: skip
def test_sizes_that_nothing_has_are_refused(flag):
    with pytest.raises(UserError, match=f"^--{flag.partition('=')[0]} .*(at least|between|multiple)"):
        parse(experiment_parser("mm_ray.train", ""), [f"--{flag}"])


def test_a_flag_is_no_yaml():
    with pytest.raises(UserError, match=r"^--seed .*: must be a whole number"):
        parse(experiment_parser("mm_ray.train", ""), [f"--seed={QUOTED_BOMB}"])


def test_the_entry_point_ends_with_2_and_one_line(tmp_path):
    for number, text in enumerate((ODD_YAML[0], BOMB, f"phase2.momentum: '{QUOTED_BOMB}'", "seed: " + "[" * 3_000)):
        (tmp_path / "c.yaml").write_text(text)
        done = run("mm_ray.train", ["--serial", *tiny_flags(), "--config=c.yaml"], tmp_path)
        assert (done.code, done.err.count("\n")) == (2, 1), (number, done)
        assert not (tmp_path / "runs").exists()
