"""The number of CPUs: the affinity, and the quota of the cgroup or of one above it."""

import os

import pytest

from mm_ray.runtime.cpus import usable_cpus


@pytest.fixture(autouse=True)
def eight_allowed(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(root, cgroup, files):
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "sys/fs/cgroup/cpu/"


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "3200000 100000\n"}, 8),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "200000 50000\n"}, 4),
        ("0::/of/the/host\n", {"sys/fs/cgroup/cpu.max": "500000 100000\n"}, 5),
        ("4:cpu,cpuacct:/a\n", {V1 + "a/cpu.cfs_quota_us": "600000\n", V1 + "a/cpu.cfs_period_us": "100000\n"}, 6),
        ("4:cpu,cpuacct:/a\n", {V1 + "a/cpu.cfs_quota_us": "-1\n", V1 + "a/cpu.cfs_period_us": "100000\n"}, 8),
        ("4:cpu,cpuacct:/x\n", {V1 + "cpu.cfs_quota_us": "200000\n", V1 + "cpu.cfs_period_us": "100000\n"}, 2),
        ("5:memory:/a\n", {"sys/fs/cgroup/memory/a/cpu.max": "100000 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense\n"}, 8),
    ],
)
def test_the_quota_of_the_cgroup_and_of_those_above_it_counts(tmp_path, cgroup, files, cpus):
    assert usable_cpus(system(tmp_path, cgroup, files)) == cpus


def test_without_cgroups_the_affinity_counts(tmp_path, monkeypatch):
    assert usable_cpus(tmp_path) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert usable_cpus(tmp_path) == 1
