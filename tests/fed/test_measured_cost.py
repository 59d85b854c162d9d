"""Peak memory, and energy from counters that start over."""

import pytest
from fed.tiny import Run

from mm_ray.fed import measured_cost
from mm_ray.fed.measured_cost import EnergyMeter, peak_memory_bytes


@pytest.fixture
def counters(tmp_path):
    def write(**packages):
        for name, micro_joules in packages.items():
            folder = tmp_path / name.replace("_", ":")
            folder.mkdir(exist_ok=True)
            (folder / "energy_uj").write_text(f"{micro_joules}\n")
            (folder / "max_energy_range_uj").write_text("1000000000\n")

    write.root = tmp_path
    return write


def test_joules_of_all_packages_and_of_none_of_their_parts(counters):
    counters(**{"intel-rapl_0": 5_000_000, "intel-rapl_1": 0, "intel-rapl_0_0": 0})
    meter = EnergyMeter(counters.root)
    counters(**{"intel-rapl_0": 8_000_000, "intel-rapl_1": 500_000, "intel-rapl_0_0": 9_000_000})
    assert meter.read() == 3.5


def test_a_counter_that_started_over(counters):
    counters(**{"intel-rapl_0": 999_000_000})
    meter = EnergyMeter(counters.root)
    counters(**{"intel-rapl_0": 2_000_000})
    assert meter.read() == 3.0
    counters(**{"intel-rapl_0": 3_000_000})
    assert meter.read() == 4.0


def test_without_counters_nothing_is_measured(tmp_path):
    assert EnergyMeter(tmp_path).read() is None


def test_a_run_says_what_it_took(tmp_path, counters, monkeypatch):
    counters(**{"intel-rapl_0": 0})
    monkeypatch.setattr(measured_cost, "POWERCAP", counters.root)
    run = Run(tmp_path / "run", tell=lambda report: counters(**{"intel-rapl_0": 1_000_000}))
    assert run.result["energy_j"] == 1.0
    memory = run.result["peak_memory_bytes"]
    assert 50e6 < memory["driver"] <= peak_memory_bytes()
    assert memory["actor"] is None, "a serial run has none"
