"""The store's `README.md`: a data card, which also tells Hugging Face's `datasets` what its files are."""

import yaml

from mm_ray.data.feature_store import CARD, REJECTED
from mm_ray.data.manifest import NO_LABEL
from mm_ray.plugins import public_name
from mm_ray.prepare.inspect import HEADS, Contents, StoreFacts
from mm_ray.report.tables import markdown_table
from mm_ray.storage import join, write_text

FRONT_MATTER = {
    "license": "unknown",
    "task_categories": ["audio-classification"],
    "tags": ["audio", "mm_ray"],
    "configs": [
        {"config_name": "clips", "default": True, "data_files": [{"split": "clips", "path": "part-*.parquet"}]},
        {"config_name": "rejected", "data_files": [{"split": "rejected", "path": REJECTED}]},
    ],
}
"""One split holds all clips: the column `splits` has those of each fold."""


def write_card(contents: Contents, facts: StoreFacts) -> None:
    """Write the card of a finished store."""
    write_text(join(contents.place, CARD), card(contents, facts))


def card(contents: Contents, facts: StoreFacts) -> str:
    """The card's text."""
    settings, header = contents.settings, contents.header
    features = settings.features
    on_gpu = "" if settings.device == "cpu" else f", its encoders ran on {settings.device}"
    classes = ", ".join(f"{label} {name}" for label, name in enumerate(settings.class_names))
    lines = [
        "---",
        yaml.safe_dump(FRONT_MATTER, sort_keys=False).strip(),
        "---",
        f"# {settings.name}: audio{' and video' if header.video_features else ''} features",
        "",
        f"{len(contents.clips):,} clips, {len(facts.groups):,} groups, durations {facts.durations}; "
        f"{facts.reasons.total():,} rejected clips are in `{REJECTED}`. Made by `python -m mm_ray.prepare`{on_gpu}; train on "
        "it with `python -m mm_ray.train --data PATH`. The license is that of the recordings, which the store does not know.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'clips = load_dataset("parquet", data_files="PATH/part-*.parquet")["train"]  # or load_dataset("PATH")["clips"]',
        "```",
        "",
        f"## Clips by class and split (fold 0 of {settings.num_folds})",
        markdown_table(HEADS, facts.classes),
        "## Columns",
        markdown_table(
            ("column", "content"),
            [
                ["`clip_id`, `recording`, `group`", "names of the clip, its recording, and its speaker or site"],
                ["`label`", f"class (-1: {NO_LABEL}): {classes}"],
                ["`splits`", f"`train`, `dev` or `test` in each of {settings.num_folds} folds"],
                [
                    "`audio`, `audio_frames`",
                    f"{public_name(features.audio)}: float16, row-major ({header.audio_features} numbers per frame)",
                ],
                [
                    "`video`, `video_frames`",
                    f"{public_name(features.video)}: likewise, {header.video_features} numbers; may be null",
                ],
                ["`seconds`, `start_s`, `end_s`", "length, and the segment in the recording"],
                ["`source`, `video_source`", "file names below the folder of the recordings"],
                ["`row`, `flags`", "order of the clips, and what is unusual about them"],
            ],
        ),
    ]
    return "\n".join(lines)
