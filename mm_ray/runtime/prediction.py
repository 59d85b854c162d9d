"""Recordings on a Ray cluster: `python -m mm_ray.predict --address`."""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from mm_ray.data.windows import Windows
from mm_ray.errors import UserError, bad_value
from mm_ray.models.student import Student, load_student
from mm_ray.prediction import STDIN, HeardWindows, answer_of, recordings_of
from mm_ray.runtime.cluster import connect

FILES_PER_TASK = 16
QUEUED = 2
"""Tasks for each CPU, running ones among them."""
Answers = list[HeardWindows | UserError]


def predict_on_ray(
    student: Path, own: tuple[str, str], names: Sequence[str], windows: Windows, address: str
) -> Iterator[HeardWindows | UserError]:
    """What a student hears in the recordings that some names stand for, in their order; every node reads them by these names.

    Args:
        student: `student.safetensors`; the nodes get its files.
        own: The student's encoder and its audio features, if they are the user's own; every node must find them.
        names: Files, folders and patterns, as this machine sees them.
        windows: In frames.
        address: The cluster's.

    Raises:
        UserError: Nothing answers at the address, or a recording comes on stdin.

    """
    if STDIN in names:
        raise bad_value("address", address, "the cluster does not read this machine's stdin; give files, or leave it out")
    cluster = connect(address)
    files = ray.put((student.read_bytes(), student.with_suffix(".json").read_bytes(), own))
    waiting = iter(chain.from_iterable(map(recordings_of, names)))
    running: deque[tuple[list[str], ray.ObjectRef]] = deque()
    while True:
        while len(running) < QUEUED * max(cluster.num_cpus, 1) and (some := list(islice(waiting, FILES_PER_TASK))):
            running.append((some, _answers.remote(files, some, windows)))
        if not running:
            return
        some, answers = running.popleft()
        yield from _result(files, some, windows, answers)


def _result(files: ray.ObjectRef, some: list[str], windows: Windows, answers: ray.ObjectRef) -> Answers:
    """A task's answers; after the death of its process each file is tried alone."""
    try:
        result: Answers = ray.get(answers)
        return result
    except RayTaskError:
        raise
    except RayError:
        if len(some) == 1:
            return [UserError(f"{some[0]}: crashed the process that decoded it; convert it")]
        alone = [([name], _answers.remote(files, [name], windows)) for name in some]
        return [answer for name, answer_ref in alone for answer in _result(files, name, windows, answer_ref)]


@ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")
def _answers(files: tuple[bytes, bytes, tuple[str, str]], some: list[str], windows: Windows) -> Answers:
    torch.set_num_threads(1)
    student = _loaded(*files)
    return [answer_of(student, name, windows) for name in some]


@lru_cache(maxsize=1)
def _loaded(tensors: bytes, description: bytes, own: tuple[str, str]) -> Student:
    with TemporaryDirectory() as folder:
        path = Path(folder, "student.safetensors")
        path.write_bytes(tensors)
        path.with_suffix(".json").write_bytes(description)
        return load_student(path, *own)
