"""`python -m mm_ray.export RUN --out DIR`: a student as a folder to give away."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mm_ray.cli import Parser, run_main
from mm_ray.errors import UserError, bad_value
from mm_ray.export.demo import FETCH, RUNTIME
from mm_ray.export.folder import write_export
from mm_ray.export.measure import has_onnxruntime
from mm_ray.export.subject import best_of_comparison, subject_of
from mm_ray.runtime.run_folder import phases_place

DESCRIPTION = """Write a trained student as a folder to give away: student.onnx (from waveform to label, recordings of any
length), a variant with 8-bit weights, predict.py (numpy and onnxruntime only), a model card and checksums. RUN is the folder of
a run, a study or a comparison, or its name below --runs. Of a comparison, the run with the best dev accuracy is exported."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags, find the student, write the folder."""
    parser = Parser("mm_ray.export", DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="Folder of a run, a study or a comparison, or its name below --runs")
    parser.add_argument("--out", default="", metavar="DIR", help="The folder to write; files of an earlier export are replaced")
    parser.add_argument("--runs", default="runs", help="Folder of all runs (default: runs)")
    parser.add_argument("--method", default="", help="Of a comparison: the best run of this method (default: of all)")
    parser.add_argument("--phases", default="", help="Of a comparison: its phase store (default: RUNS/phases)")
    text = "Also write demo.html, which runs the student in a browser on what its microphone hears"
    parser.add_argument(
        "--demo", nargs="?", const=FETCH, metavar="FOLDER", help=f"{text}; FOLDER: {RUNTIME} (default: npm fetches it)"
    )
    parser.add_argument("--encoder", default="", help="The student's encoder, if it is your own: mine.py:thing")
    flags = parser.parse_args(argv)
    if not flags.out:
        raise UserError("--out: name the folder to write with --out")
    out = Path(flags.out).expanduser()
    if out.exists() and not out.is_dir():
        raise bad_value("out", flags.out, "is a file; name a folder")
    torch.set_num_threads(1)
    folder = next((path for path in (Path(flags.run), Path(flags.runs, flags.run)) if path.is_dir()), None)
    if folder is None:
        raise bad_value("RUN", flags.run, f"no such folder, nor a run of this name below {flags.runs}")
    folder = folder.resolve()
    with TemporaryDirectory() as workspace:
        if (folder / "compare.csv").exists():
            phases = phases_place(flags.phases, str(folder.parent), folder.name)
            subject = best_of_comparison(folder, flags.method, phases, Path(workspace))
        else:
            subject = subject_of(folder)
        write_export(out, subject, flags.demo or "", flags.encoder)
    if not has_onnxruntime():
        print("onnxruntime is not installed, so there is no 8-bit variant and no latency; pip install 'mm-ray[export]'")
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path}")


if __name__ == "__main__":
    run_main(main)
