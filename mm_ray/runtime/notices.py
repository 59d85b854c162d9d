"""Messages from any process of a job to the terminal of the command that started it."""

import ray
from ray._private.utils import push_error_to_driver
from ray._private.worker import global_worker


def tell_driver(text: str) -> None:
    """Print a line in the driver, as Ray does with its own warnings, because workers' output stays in their logs."""
    job_id = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    push_error_to_driver(global_worker, "mm_ray", text, job_id)  # type: ignore[arg-type]  # it asserts a JobID
