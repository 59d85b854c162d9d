"""`clusters/local.yaml` for real: hosts in namespaces, `ray up` over ssh, a study as a job, its files at home, `ray down`.

The commands are those of docs/cluster.md, given on a host that plays the laptop; only the four lines marked EDIT are edited.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster.hosts import ADDRESSES, ROOT, hosts_in
from fed.tiny import tiny_flags

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]

UP = {"RAY_UP_enable_autoscaler_v2": "0"}
JOBS = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265"}
EDITED = {
    "head_ip": ADDRESSES["head"],
    "worker_ips": f"[{ADDRESSES['worker']}]",
    "ssh_user": "root",
    "ssh_private_key": "~/.ssh/id_ed25519",
}


class Cluster:
    """A cluster that `ray up` brought up, seen from the client."""

    def __init__(self, hosts):
        self.hosts, self.file = hosts, hosts.home("client") / "local.yaml"
        text = (ROOT / "clusters/local.yaml").read_text()
        for field, value in EDITED.items():
            text, edited = re.subn(rf"(\b{field}:) .*# EDIT.*", rf"\1 {value}", text)
            assert edited == 1, field
        self.file.write_text(text)

    def up(self):
        self.hosts.run("client", "ray get-auth-token --generate")
        self.hosts.run("client", f"ray up {self.file} --yes", timeout=1200, **UP)
        self.tunnel = self.hosts.start("client", f"exec ray dashboard {self.file}")
        eventually(lambda: self.nodes() == 2, 600)

    def nodes(self):
        status = self.exec("ray status")
        return len(re.findall(r"^ 1 local\.cluster\.node", status, re.M)) + status.count(" 2 local.cluster.node") * 2

    def exec(self, command, *flags):
        return self.hosts.run("client", f"ray exec {self.file} {' '.join(flags)} '{command}'")

    def submit(self, command):
        return self.hosts.start("client", f"ray job submit --working-dir . -- bash -c '{command}'", **JOBS)

    def down(self):
        return self.hosts.run("client", f"ray down {self.file} --yes", timeout=600)


def eventually(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, condition
        time.sleep(1)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    with hosts_in(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def cluster(hosts):
    cluster = Cluster(hosts)
    cluster.up()
    yield cluster
    cluster.tunnel.kill()


@pytest.fixture(scope="module")
def study(cluster, hosts):
    """A study of three trials; its folder is on the head."""
    job = cluster.submit(tune("study", hosts.folder / "phases", "--space", "smoke", "--trials", "3"))
    output, _ = job.communicate(timeout=1200)
    assert job.returncode == 0, output[-4000:]
    assert "3 trials of the space smoke on auto (4 CPUs)" in output
    return hosts.home("head") / "runs" / "study"


def tune(name, phases, *flags, **overrides):
    """The command of a tiny study; its folder is on the head, its phases where both hosts see them."""
    places = ["--address", "auto", "--name", name, "--runs", "~/runs", "--phases", str(phases)]
    return " ".join(["python -m mm_ray.tune", *places, "--test_seeds", "0", *flags, *tiny_flags(overrides)]).replace(", ", ",")


def test_the_setup_commands_installed_the_copied_project_on_both_hosts(cluster, hosts):
    for host in ("head", "worker"):
        assert f"Editable project location: {hosts.home(host)}/mm_ray" in hosts.run(host, "pip show mm_ray")


def test_a_study_as_a_job_uses_both_hosts_and_gives_the_bits_of_a_serial_run(study, hosts, tmp_path):
    trials = [json.loads(line) for line in (study / "trials.jsonl").read_text().splitlines()]
    assert sorted(trial["number"] for trial in trials) == [0, 1, 2]
    assert {trial["state"] for trial in trials} == {"COMPLETE"}
    assert processes_of("worker", hosts), "the worker host ran nothing"
    assert digest(study) == digest(run_again(study, tmp_path))


def processes_of(host, hosts):
    """Ids of the Ray workers that ever ran on a host."""
    return {path.stem for path in (hosts.folder / host / "ray").glob("session_2*/logs/worker-*.out")}


def run_again(study: Path, runs: Path) -> Path:
    """The study's best configuration, trained serially here, with nothing reused."""
    flags = ["--runs", runs, "--name", "again", "--config", study / "best.yaml"]
    subprocess.run(
        [sys.executable, "-m", "mm_ray.train", "--serial", *flags], check=True, stdout=subprocess.DEVNULL, timeout=1200
    )
    return runs / "again"


def digest(folder: Path) -> str:
    return json.loads((folder / "result.json").read_text())["params_digest"]


HTTP = ("8265/api/version", "52365/api/job_agent/jobs/", "6382/")
"""What answers HTTP with more than figures; 8265 only through the tunnel."""


def test_nobody_without_the_token_gets_in(cluster, hosts):
    for place in HTTP:
        address = "127.0.0.1" if place.startswith("8265") else ADDRESSES["head"]
        status = hosts.run("client", f"curl -s -o /dev/null -w '%{{http_code}}' http://{address}:{place}")
        assert status == "401", place
    submit = "ray job submit -- id; ray job list"
    output = hosts.run("client", f"({submit}) 2>&1 || true", RAY_AUTH_MODE="disabled", **JOBS)
    assert output.count("Missing authentication token") >= 2
    assert "submitted" not in output
    join = "import ray; ray.init(f'{0}:6379')".replace("{0}", ADDRESSES["head"])
    for token in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 64}):
        output = hosts.run("client", f'python -c "{join}" 2>&1 || true', timeout=600, **token)
        assert "ConnectionError: Failed to connect to Ray cluster" in output


def test_only_the_documented_ports_listen_and_the_dashboard_on_loopback(cluster, hosts):
    for host in ("head", "worker"):
        listening = {place for place in hosts.run(host, "ss -tlnH | awk '{print $4}'").split() if not place.endswith(":22")}
        assert {int(place.rpartition(":")[2]) for place in listening} <= documented_ports(), host
        assert {place for place in listening if place.endswith(":8265")} <= {"127.0.0.1:8265"}


def documented_ports():
    """The first column of the table of ports in docs/security.md."""
    rows = re.findall(r"^\| (\d+)(?:-(\d+))? \|", (ROOT / "docs/security.md").read_text(), re.M)
    return {port for first, last in rows for port in range(int(first), int(last or first) + 1)}


def test_its_files_come_home_and_tensorboard_is_read_through_ssh(study, cluster, hosts):
    hosts.run("client", f"mkdir -p ~/got && ray rsync-down {cluster.file} '~/runs/study/' ~/got/")
    got = hosts.home("client") / "got"
    for name in ("result.json", "best.yaml", "report.html", "student.safetensors", "trials.jsonl"):
        assert (got / name).read_bytes() == (study / name).read_bytes()
    board = "tensorboard --logdir ~/runs --host 127.0.0.1 --port 6006"
    tunnel = hosts.start("client", f'exec ray exec {cluster.file} --port-forward 6006 "{board}"')
    try:
        eventually(lambda: "trial-002" in hosts.run("client", "curl -s http://127.0.0.1:6006/data/runs || true"), 600)
    finally:
        tunnel.terminate()


def test_a_worker_host_that_is_unplugged_costs_no_trial_and_no_bit(cluster, hosts, tmp_path):
    phases, study = hosts.folder / "phases-unplugged", hosts.home("head") / "runs" / "unplugged"
    rounds = {"phase1.rounds": 60, "phase2.rounds": 60}
    before = processes_of("worker", hosts)
    job = cluster.submit(tune("unplugged", phases, "--trials", "4", **rounds))
    eventually(lambda: len(list(phases.glob("*/round-*"))) >= 4, 600)
    assert processes_of("worker", hosts) > before
    hosts.unplug("worker")
    output, _ = job.communicate(timeout=1200)
    assert job.returncode == 0, output[-4000:]
    trials = [json.loads(line) for line in (study / "trials.jsonl").read_text().splitlines()]
    ended = sorted((trial["number"], trial["state"]) for trial in trials)
    assert ended == [(number, "COMPLETE") for number in range(4)]
    assert digest(study) == digest(run_again(study, tmp_path))


def test_ray_down_leaves_no_ray_on_the_head(cluster, hosts):
    assert "No nodes remaining" in cluster.down()
    assert hosts.run("head", "pgrep raylet; pgrep gcs_server; true").strip() == ""
