"""An export is pushed to the Hub: to a stand-in of its API on this machine, with the real library."""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from fed.tiny import Run, table_of

from mm_ray.errors import EnvironmentFailure, UserError
from mm_ray.export import subject as subjects
from mm_ray.export.__main__ import main
from mm_ray.models.student import load_student
from mm_ray.runtime.run_folder import config_yaml, write_results

hub = pytest.importorskip("huggingface_hub", reason="needs mm-ray[hub]")
constants = pytest.importorskip("huggingface_hub.constants")
FILES = {
    "README.md", "SHA256SUMS", "predict.py", "student.int8.onnx", "student.json", "student.onnx", "student.safetensors",
}  # fmt: skip


class StandIn(BaseHTTPRequestHandler):
    """The calls of the Hub's API that a push makes; every file is a regular one."""

    def do_POST(self):
        body, state = self.rfile.read(int(self.headers["Content-Length"])), self.server.state
        state["tokens"].add(self.headers["Authorization"])
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name.startswith("foreign/"):
                return self._answer({"error": "You don't have the rights to create a model there"}, 403)
            is_new = name not in state["repos"]
            state["repos"].setdefault(name, asked.get("private", asked.get("visibility") == "private"))
            return self._answer({"url": f"http://{self.headers['Host']}/{name}"}, 200 if is_new else 409)
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            return self._answer({"files": [{"path": file["path"], **mode} for file in json.loads(body)["files"]]})
        assert self.path.endswith("/commit/main"), self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                state["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._answer({"commitUrl": f"http://{self.headers['Host']}/ann/barks/commit/0", "commitOid": "0"})

    def do_GET(self):
        name = self.path.removeprefix("/api/models/").partition("?")[0]
        known = self.server.state["repos"]
        self._answer({"id": name, "private": known[name]} if name in known else {}, 200 if name in known else 404)

    def _answer(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def state(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.state = {"repos": {"ann/open": False}, "files": {}, "tokens": set()}
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(hub, "get_token", lambda: "hf_of_the_test")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.state
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    run = Run(runs / "phases", {"phase1.rounds": 2, "phase2.rounds": 1})
    (runs / "barks").mkdir()
    write_results(runs / "barks", run.tested, run.store, table_of(run.plan.config.data))
    (runs / "barks" / "config.yaml").write_text(config_yaml(run.plan.config))
    return runs / "barks"


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.setattr(subjects, "load_data", lambda data, cache: table_of(data))


def test_an_export_is_a_private_repository(folder, state, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    main([str(folder), "--out", str(out), "--push", "ann/barks"])
    assert state["repos"]["ann/barks"] is True
    assert state["files"] == {name: (out / name).read_bytes() for name in FILES}  # not the notes beside them
    assert "notes.txt" not in (out / "SHA256SUMS").read_text()
    assert state["tokens"] == {"Bearer hf_of_the_test"}
    assert f"\npushed to {constants.ENDPOINT}/ann/barks; set `license` in its card" in capsys.readouterr().out
    for name in ("student.safetensors", "student.json"):  # what the repository holds is a student
        (tmp_path / name).write_bytes(state["files"][name])
    assert load_student(tmp_path / "student.safetensors").class_names == tuple(f"event{k:02d}" for k in range(4))


def test_public_only_where_it_is_asked_for(folder, state):
    with pytest.raises(UserError, match=r"^--push ann/open: is there and public; add --public if everybody may read"):
        main([str(folder), "--push", "ann/open"])
    assert not state["files"]
    main([str(folder), "--push", "ann/open", "--public"])
    main([str(folder), "--push", "ann/new", "--public"])
    assert state["repos"]["ann/new"] is False
    assert {*state["files"]} == FILES


def test_a_push_that_fails_is_one_line(folder, state, monkeypatch):
    with pytest.raises(UserError, match=r"^--push foreign/x: the Hub refuses it \(.*rights.*\); check the name, and") as caught:
        main([str(folder), "--push", "foreign/x"])
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFailure, match=r"^--push ann/x: the Hub cannot be reached \("):
        main([str(folder), "--push", "ann/x"])


def test_what_a_push_needs_is_checked_first(monkeypatch):
    for flags, text in (
        (["--push", "barks"], r"^--push barks: must be OWNER/NAME, such as ann/dog-barks$"),
        (["--push", "ann/a--b"], r"^--push ann/a--b: Cannot have -- or \.\."),
        (["--out", "x", "--public"], r"^--public: needs --push OWNER/NAME$"),
    ):
        with pytest.raises(UserError, match=text):
            main(["nowhere", *flags])
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(UserError, match=r"^--push ann/x: there is no token for the Hub; run hf auth login, or set HF_TOKEN$"):
        main(["nowhere", "--push", "ann/x"])
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"^--push ann/x: needs huggingface_hub; pip install 'mm-ray\[hub\]'"):
        main(["nowhere", "--push", "ann/x"])
