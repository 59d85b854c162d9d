"""The cluster files against Ray's own schema, pyproject.toml and the working tree; no cloud is called."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError

ROOT = Path(__file__).resolve().parent.parent
RAY_UP = ("cluster.yaml", "clusters/gcp.yaml", "clusters/local.yaml")
VERSIONED = (*RAY_UP, "clusters/kuberay.yaml", "clusters/Dockerfile")
# ray==1.2.3, ray[default]==1.2.3, rayproject/ray:1.2.3-py311, rayVersion: "1.2.3"
RAY_VERSION = re.compile(r"(?:\bray(?:\[[\w,]*\])?==|rayproject/ray:|rayVersion:\s*[\"']?)(\d[\w.]*)")


def pinned_ray() -> str:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return next(found.group(1) for text in dependencies if (found := RAY_VERSION.search(text)))


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def validate(config: dict) -> None:
    """What `ray up` checks before it calls the cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


@pytest.mark.parametrize("name", RAY_UP)
def test_a_ray_up_file_fits_rays_schema(name):
    validate(load(name))


def test_the_schema_check_refuses_an_unknown_field():
    with pytest.raises(ValidationError):
        validate({**load("cluster.yaml"), "idle_timeout": 5})


@pytest.mark.parametrize("name", VERSIONED)
def test_every_ray_version_is_that_of_pyproject(name):
    versions = [version.split("-")[0] for version in RAY_VERSION.findall((ROOT / name).read_text())]
    assert set(versions) == {pinned_ray()}


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_starts_with_a_token_and_the_dashboard_on_loopback(name):
    config = load(name)
    (head,) = (command for command in config["head_start_ray_commands"] if "ray start" in command)
    (worker,) = (command for command in config["worker_start_ray_commands"] if "ray start" in command)
    assert "RAY_AUTH_MODE=token;" in head
    assert "RAY_AUTH_MODE=token;" in worker
    assert "--dashboard-host=127.0.0.1 " in head
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", RAY_UP)
def test_the_mounts_are_what_the_package_is_built_from(name):
    mounts = {local for local in load(name)["file_mounts"].values() if not local.startswith("~")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert mounts == {*packages, "pyproject.toml", project["project"]["readme"]}
    assert all((ROOT / local).exists() for local in mounts)


@pytest.mark.parametrize("name", RAY_UP)
def test_one_edits_four_lines(name):
    assert len(re.findall(r"# EDIT", (ROOT / name).read_text())) == 4


def test_the_kuberay_job_runs_on_the_kuberay_cluster():
    cluster, job = yaml.safe_load_all((ROOT / "clusters/kuberay.yaml").read_text())
    assert (cluster["kind"], job["kind"]) == ("RayCluster", "RayJob")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
