"""`python -m mm_ray.export RUN --out DIR`: a student as a folder to give away."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mm_ray.cli import Parser, run_main
from mm_ray.errors import UserError, bad_value
from mm_ray.export.demo import FETCH, RUNTIME

DESCRIPTION = """Write a trained student as a folder to give away: student.onnx (from waveform to label, recordings of any
length), a variant with 8-bit weights, predict.py (numpy and onnxruntime only), a model card and checksums. RUN is the folder of
a run, a study or a comparison, or its name below --runs. Of a comparison, the run with the best dev accuracy is exported."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags, find the student, write the folder, push it."""
    flags = make_parser().parse_args(argv)
    _check(flags)
    _export(flags)


def _export(flags: Namespace) -> None:
    import torch  # takes seconds, for which --help and a wrong flag need not wait

    from mm_ray.export.folder import FILES, write_export
    from mm_ray.export.hub import push
    from mm_ray.export.measure import has_onnxruntime
    from mm_ray.export.subject import best_of_comparison, subject_of
    from mm_ray.runtime.run_folder import phases_place

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
        out = Path(flags.out).expanduser() if flags.out else Path(workspace, "export")
        write_export(out, subject, flags.demo or "", flags.encoder)
        if not has_onnxruntime():
            print("onnxruntime is not installed, so there is no 8-bit variant and no latency; pip install 'mm-ray[export]'")
        for path in sorted(out / name for name in FILES if (out / name).exists()):
            print(f"{path.stat().st_size:>12,}  {path if flags.out else path.name}")
        if flags.push:
            url = push(out, flags.push, flags.public)
            print(f"pushed to {url}; set `license` in its card, which depends on the licence of the data")


def make_parser() -> Parser:
    """The command's flags."""
    parser = Parser("mm_ray.export", DESCRIPTION)
    add = parser.add_argument
    add("run", metavar="RUN", help="Folder of a run, a study or a comparison, or its name below --runs")
    add("--out", default="", metavar="DIR", help="The folder to write; files of an earlier export are replaced")
    add("--runs", default="runs", help="Folder of all runs (default: runs)")
    add("--method", default="", help="Of a comparison: the best run of this method (default: of all)")
    add("--phases", default="", help="Of a comparison: its phase store (default: RUNS/phases)")
    text = "Also write demo.html, which runs the student in a browser on what its microphone hears"
    add("--demo", nargs="?", const=FETCH, metavar="FOLDER", help=f"{text}; FOLDER: {RUNTIME} (default: npm fetches it)")
    add("--encoder", default="", help="The student's encoder, if it is your own: mine.py:thing")
    text = "Upload the export to a model repository of the Hugging Face Hub; a new repository is private"
    add("--push", default="", metavar="OWNER/NAME", help=f"{text}; without --out nothing is kept here")
    add("--public", action="store_true", help="With --push: everybody may read the repository")
    return parser


def _check(flags: Namespace) -> None:
    """Refuse flags that cannot work before anything is computed."""
    if not flags.out and not flags.push:
        raise UserError("--out: name the folder to write with --out, or a repository of the Hub with --push OWNER/NAME")
    if flags.public and not flags.push:
        raise UserError("--public: needs --push OWNER/NAME")
    if flags.out and Path(flags.out).expanduser().is_file():
        raise bad_value("out", flags.out, "is a file; name a folder")
    if flags.push:
        from mm_ray.export.hub import check_push

        check_push(flags.push)


if __name__ == "__main__":
    run_main(main)
