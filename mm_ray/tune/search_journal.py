"""The journal of a study: one Optuna study on disk, which survives a killed driver and refuses another space."""

from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mm_ray.errors import bad_value
from mm_ray.tune.space import Space


def open_study(space: Space, run_dir: Path, name: str) -> optuna.Study:
    """The study of a run: `<run_dir>/optuna.journal`, made with the space's enqueued trials if it is new.

    Raises:
        UserError: The journal holds a study of another space.

    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "optuna.journal"
    _mend(path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    names = optuna.get_all_study_names(storage)
    if names:
        study = optuna.load_study(study_name=names[0], storage=storage)
        _check_same(study, space)
    else:
        study = optuna.create_study(study_name=f"{name}-{space.digest}", storage=storage, directions=space.directions)
    for params in space.enqueued:
        study.enqueue_trial(params, skip_if_exists=True)
    return study


def _check_same(study: optuna.Study, space: Space) -> None:
    digest = study.study_name.rpartition("-")[2]
    if digest != space.digest:
        remedy = f"its digest is {space.digest}, but this run was begun with {digest}; restore the space or use another --name"
        raise bad_value("space", space.name, remedy)


def _mend(path: Path) -> None:
    # A killed driver can leave half a line; the next append would glue a record to it and make the journal unreadable.
    text = path.read_bytes() if path.is_file() else b""
    if text and not text.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)
