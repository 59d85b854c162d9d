"""What a run without --address starts: reachable from this machine only, and refused without the token of the run."""

import http.client
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest

from mm_ray.runtime.local_ray import BELOW_TMP

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

HELD = Path(__file__).with_name("local_cluster.py")
SETTINGS = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
LISTENS = "0A"
ALL_NODES = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The cluster of a user who never heard of tokens, and whose home is empty."""
    home = tmp_path_factory.mktemp("home")
    long = tmp_path_factory.mktemp("x" * 60)  # no socket has room below it
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | {
        "HOME": str(home),
        "TMPDIR": str(long),
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, HELD], env=environment, **pipes) as process:
        try:
            yield json.loads(next(line for line in process.stdout if line[0] == "{")) | {"pid": process.pid, "home": home}
        finally:
            process.stdin.close()
            process.wait(60)


def descendants(pid):
    """A process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, level = set(), {pid}
    while level:
        found |= level
        level = {child for child, parent in parents.items() if parent in level}
    return found


def sockets(pids):
    """Inodes of the sockets that processes hold."""
    held = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            held |= {target[8:-1]} if target.startswith("socket:[") else set()
    return held


def listening(pid):
    """(address as /proc writes it, port) of every TCP socket on which a process or one below it listens."""
    held, found = sockets(descendants(pid)), set()
    for table in ("tcp", "tcp6"):
        for fields in map(str.split, Path("/proc/net", table).read_text().splitlines()[1:]):
            if fields[3] == LISTENS and fields[9] in held:
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    return found


def is_loopback(address):
    return address in ("0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F")


def test_every_port_is_on_loopback(cluster):
    places = listening(cluster["pid"])
    assert len(places) > 5, "Ray listens on about ten ports; none seen means that this test looks at the wrong processes"
    assert [place for place in places if not is_loopback(place[0])] == []
    assert 8265 not in {port for _, port in places}, "a local run needs no dashboard"


def test_the_token_is_of_this_run_and_lies_in_no_file(cluster):
    assert cluster["mode"] == "token"
    assert len(cluster["token"]) == 64
    assert [path for path in cluster["home"].rglob("*") if path.is_file()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_user_reaches_none_of_its_files(cluster):
    folder = Path(cluster["folder"])
    sessions = list(folder.glob("session_2*"))
    assert sessions, "this is where Ray keeps its files"
    for path in (folder.parent, folder, *sessions, *sessions[0].glob("*")):
        done = subprocess.run(["ls", path], user=65534, env={"PATH": os.defpath}, capture_output=True, text=True)
        assert "Permission denied" in done.stderr, path


def test_its_sockets_have_the_length_that_the_choice_of_their_place_reckons_with(cluster):
    paths = [str(path) for path in Path(cluster["folder"]).glob("session_2*/sockets/*")]
    assert paths
    assert max(map(len, paths)) <= len(str(Path(cluster["folder"]).parent.parent)) + BELOW_TMP
    assert Path(cluster["folder"]).parent.parent == Path("/tmp")


def nodes(cluster, **metadata):
    """Ask the cluster's state for its nodes, as any Ray process does; the raw answer."""
    with grpc.insecure_channel(cluster["address"]) as channel:
        ask = channel.unary_unary(ALL_NODES, request_serializer=bytes, response_deserializer=bytes)
        return ask(b"", timeout=10, metadata=tuple(metadata.items()))


@pytest.mark.parametrize("metadata", [{}, {"authorization": "Bearer " + "0" * 64}], ids=["none", "wrong"])
def test_its_state_is_refused_without_the_token(cluster, metadata):
    with pytest.raises(grpc.RpcError) as refused:
        nodes(cluster, **metadata)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_its_state_is_told_with_the_token(cluster):
    assert b"127.0.0.1" in nodes(cluster, authorization=f"Bearer {cluster['token']}")


def http_answer(port):
    """Status and body of a job list asked for without a token; None where HTTP is not spoken."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/job_agent/jobs/", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, http.client.HTTPException):
        return None


def test_over_http_nothing_but_figures_is_told_without_the_token(cluster):
    answers = {port: answer for _, port in listening(cluster["pid"]) if (answer := http_answer(port))}
    assert answers, "the agents answer HTTP"
    for port, (status, body) in answers.items():
        assert status == 401 or (status == 200 and body.startswith(b"# HELP")), (port, status, body[:200])
