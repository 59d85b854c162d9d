"""Hosts on this machine (`hosts.sh`): a client that runs `ray up`, as a person's laptop would, and those that become the
cluster."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = Path(__file__).with_name("hosts.sh")
TOOLS = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "rsync", "curl", "/usr/sbin/sshd")
NAMES = ("client", "head", "worker")


def addresses_of(names: Sequence[str]) -> dict[str, str]:
    """The address of each host, as `hosts.sh` gives them."""
    return {name: f"10.77.0.{number}" for number, name in enumerate(names, start=2)}


ADDRESSES = addresses_of(NAMES)


def missing() -> str:
    """Why hosts cannot be made here; empty if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux for network namespaces"
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    if lacking:
        return f"lacks {', '.join(lacking)} (Debian: openssh-server, openssh-client, iproute2, rsync, util-linux, curl)"
    return ""


class NoHosts(Exception):
    """This machine makes no hosts."""


class Hosts:
    """The hosts that run.

    Args:
        folder: Where their homes lie; all hosts see it under the same path, as they would a network folder.
        names: Their names, at most 7 characters each; the host named `client` can log in to the others.

    """

    def __init__(self, folder: Path, names: Sequence[str] = NAMES) -> None:
        self.folder, self.tag = folder, f"mm{os.getpid() % 100_000}"
        named = {"HOSTS_DIR": str(folder), "HOSTS_TAG": self.tag, "HOSTS_NAMES": " ".join(names)}
        self._settings = os.environ | named | {"VENV": sys.prefix}

    def up(self, wheels: Path | None = None) -> None:
        """Start them.

        Args:
            wheels: A folder in which their pip finds all packages; None: it asks the package index.

        Raises:
            NoHosts: The machine cannot.

        """
        settings = self._settings | {"WHEELS": str(wheels or "")}
        made = subprocess.run([SCRIPT, "up"], env=settings, capture_output=True, text=True, timeout=200)
        if made.returncode:
            self.down()
            raise NoHosts(f"this machine makes no hosts: {made.stderr.strip()[-300:]}")

    def down(self) -> None:
        """End all that runs in them."""
        subprocess.run([SCRIPT, "down"], env=self._settings, check=True, timeout=200)

    def home(self, host: str) -> Path:
        """A host's home folder."""
        return self.folder / host / "home"

    def start(self, host: str, command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a shell command on a host, in the folder of the project."""
        variables = {
            "HOME": str(self.home(host)), "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8", "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        inside = ["nsenter", "--target", str(self.init(host)), "--mount", "--pid", "--uts", "--net", f"--wd={ROOT}"]
        pairs = [f"{name}={value}" for name, value in (variables | environment).items()]
        return subprocess.Popen(
            [*inside, "env", "-i", *pairs, "bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, host: str, command: str, timeout: float = 200, **environment: str) -> str:
        """Run a shell command on a host; what it wrote, if it ended well."""
        process = self.start(host, command, **environment)
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert process.returncode == 0, f"{host}: {command}\n{output[-4000:]}"
        return output

    def unplug(self, host: str) -> None:
        """Take a host away without a word: first its cable, so that nobody is told, then its power."""
        subprocess.run(["ip", "-n", f"{self.tag}-sw", "link", "set", f"{self.tag}-{host}", "down"], check=True)
        subprocess.run(["kill", "-KILL", str(self.init(host))], check=True)

    def init(self, host: str) -> int:
        """Id, on this machine, of a host's first process, from which all others on the host descend."""
        return int((self.folder / host / "init").read_text())


@contextmanager
def hosts_in(folder: Path) -> Iterator[Hosts]:
    """A client, a head and a worker for as long as the context lasts."""
    if missing():
        pytest.skip(missing())
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels), "hatchling", "editables"]
    if subprocess.run(pip, capture_output=True, timeout=300).returncode:
        pytest.skip("no package index answers: the hosts' setup commands need the build backend, hatchling")
    hosts = Hosts(folder)
    try:
        hosts.up(wheels)
    except NoHosts as error:
        pytest.skip(str(error))
    try:
        yield hosts
    finally:
        hosts.down()
