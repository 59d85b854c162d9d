import os
import secrets
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports ray or torch, and inherited by every process that a test starts: no telemetry, one thread per
# process, and token authentication with a token of this session, so that nothing is written to the user's home.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("mm_ray", deadline=None, derandomize=True)
settings.load_profile("mm_ray")


WHOLE_RUNS = (
    "audio_features", "avdigits", "baselines", "batched_training", "benchmarks", "checks_before_ray", "cost", "datasets",
    "decode", "encoders", "feature_store", "fedmultimodal", "finalize", "method_clients", "methods", "onnx_export",
    "out_of_memory", "phase_keys", "phases", "plugins", "precision", "pretrained", "privacy", "recording_windows", "rounds",
    "run_folder", "scaffold", "searchers", "trial", "unlabelled", "update_screening", "vector", "video_features",
    "virtual_time", "who_trains_what",
)  # fmt: skip
"""Files whose tests train, decode or start processes again and again; so do those of some folders."""
WHOLE_RUN_FOLDERS = ("api", "entry", "export", "fuzz", "prepare", "trackers")


def _is_whole_run(path):
    return path.stem.removeprefix("test_") in WHOLE_RUNS or path.parent.name in WHOLE_RUN_FOLDERS


def pytest_itemcollected(item):
    """Mark whole runs, and what uses the session's Ray."""
    if _is_whole_run(item.path):
        item.add_marker(pytest.mark.thorough)
    if "local_ray" in item.fixturenames:
        item.add_marker(pytest.mark.ray)


@pytest.fixture(autouse=True)
def single_thread_torch():
    """Sums of floats do not depend on the machine's cores; torch itself is imported only by the tests that need it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def own_code_of_other_tests(tmp_path_factory):
    """Modules that a test wrote are gone before the next one."""
    if "mm_ray.plugins" in sys.modules:
        from own_code import forget_modules

        forget_modules(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def local_ray():
    """A Ray of 2 CPUs and 2 GPUs (bookkeeping only), shared by all tests that ask for it; its address is the value."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=2,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=256 * 1024**2,
    )
    address = context.address_info["gcs_address"]
    with pytest.MonkeyPatch.context() as patch:
        # Processes that a test or Ray Train starts find this Ray and no other one on the machine.
        patch.setenv("RAY_ADDRESS", address)
        yield address
    ray.shutdown()


@pytest.fixture(scope="session")
def shared_data():
    """The folder of small recorded data sets beside the repository, where there is one."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the repository: the recorded data sets are not part of it")
    return folder
