"""A phase's settings are its fields: what of them enters the key, and which of its sources clients get."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from fed.tiny import tiny_plan

from mm_ray.fed.phase import KEY, OUTSIDE_KEY, NetworkRef, key_settings, shared_inputs
from mm_ray.methods.central_audio import CentralAudio
from mm_ray.methods.modality_mirror import Unimodal


@dataclass(frozen=True)
class Own(Unimodal):
    """As a user would write it."""

    strength: float = field(default=0.5, kw_only=True)
    note: str = field(default="", kw_only=True, metadata=OUTSIDE_KEY)
    who: frozenset[int] = field(default=frozenset(), kw_only=True, metadata={KEY: lambda phase: {"who": sorted(phase.who)}})


def made(kind, **own):
    phase = tiny_plan().method.phases[0]
    assert isinstance(phase, Unimodal)
    return kind(phase.rounds, model=phase.model, local=phase.local, sample_frac=0.5, chunk_size=2, **own)


def test_a_field_of_an_own_phase_enters_by_itself_and_the_others_as_they_say():
    base = key_settings(made(Own))
    assert base == key_settings(made(Unimodal)) | {"strength": 0.5, "who": []}
    assert key_settings(made(Own, note="other")) == base
    changed = key_settings(made(Own, strength=0.7, who=frozenset({2, 1})))
    assert changed == base | {"strength": 0.7, "who": [1, 2]}
    assert json.loads(json.dumps(changed))["who"] == [1, 2]


@pytest.mark.parametrize(
    ("setting", "value"), [("sample_frac", 0.25), ("chunk_size", 3), ("dropout_frac", 0.1), ("deadline_s", 9.0)]
)
def test_participation_enters_the_key_only_where_somebody_can_be_left_out(setting, value):
    unimodal, central = made(Unimodal), made(CentralAudio)
    assert key_settings(replace(unimodal, **{setting: value})) == key_settings(unimodal) | {setting: value}
    assert key_settings(replace(central, **{setting: value})) == key_settings(central)


def test_clients_get_frozen_sources_only():
    frozen, start = NetworkRef("one", "av", frozen=True), NetworkRef("one", "audio")
    given = {frozen: {"a": np.ones(1)}, start: {"b": np.ones(2)}}
    assert set(shared_inputs(given)) == {"a"}
    assert shared_inputs({start: given[start]}) == {}
