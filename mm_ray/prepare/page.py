"""`inspect.html`: what is in a store, and the spectrograms and frames of a few of its clips.

Shape suffixes: T audio frames, F audio bins, S video frames, D video features, H height, W width.
"""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from mm_ray.data.feature_store_reader import names_broken, read_columns
from mm_ray.data.manifest import label_name
from mm_ray.data.media.errors import FLAGS, REASONS
from mm_ray.prepare.inspect import HEADS, Contents, StoreFacts
from mm_ray.report.data import ShownClip, data_page
from mm_ray.storage import join, write_text

PAGE = "inspect.html"
NUM_SHOWN = 12
_DEVIATIONS = 3.0
"""Features this many standard deviations below and above their mean are black and white."""


def write_page(contents: Contents, facts: StoreFacts) -> str:
    """Write `inspect.html` into the store; returns its place."""
    place = join(contents.place, PAGE)
    write_text(place, page(contents, facts))
    return place


def page(contents: Contents, facts: StoreFacts) -> str:
    """The page's text: the counts, and clips evenly spread over the store."""
    count = min(NUM_SHOWN, len(contents.clips))
    chosen = [contents.clips.slice(i * len(contents.clips) // count, 1).to_pylist()[0] for i in range(count)]
    return data_page(
        facts.title, HEADS, facts.classes, facts.groups, facts.seconds, facts.durations, facts.warnings,
        {"Flags of clips that are kept": [(n, name, FLAGS.get(name, "")) for name, n in facts.flags.most_common()],
         "Rejected": [(n, name, REASONS.get(name, "")) for name, n in facts.reasons.most_common()]},
        [_shown(contents, clip) for clip in chosen],
    )  # fmt: skip


def _shown(contents: Contents, clip: dict[str, Any]) -> ShownClip:
    shard = read_columns(clip["shard"], ("audio", "video")).slice(clip["position"], 1)
    with names_broken(clip["shard"]):
        audio_TF = shard["audio"][0].values.to_numpy().reshape(clip["audio_frames"], -1)
        video_SD = shard["video"][0].values.to_numpy().reshape(clip["video_frames"], -1) if clip["video_frames"] else None
    label = label_name(clip["label"], contents.settings.class_names)
    facts = [label, f"group {clip['group']}", "/".join(clip["splits"]), f"{clip['seconds']:.2f} s", *clip["flags"]]
    features = contents.settings.features
    hop_s = features.hop_ms / 1000 if features.audio == "log_mel" else None
    frames = png(frames_side_by_side(video_SD, contents)) if video_SD is not None else ""
    return ShownClip(clip["clip_id"], ", ".join(facts), levels(audio_TF).T, hop_s, frames)


def frames_side_by_side(video_SD: np.ndarray, contents: Contents) -> np.ndarray:
    """Pixel features as the frames that they are (H, W, 3), other features as a strip a frame (H, W), uint8."""
    features = contents.settings.features
    side, channels = features.video_size, 3 if features.video_color == "rgb" else 1
    if features.video != "pixels":
        return levels(video_SD)
    pictures = levels(video_SD).reshape(-1, side, side, channels)
    spaced = np.pad(pictures, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255)
    wide = spaced.transpose(1, 0, 2, 3).reshape(side, -1, channels)
    return np.ascontiguousarray(np.broadcast_to(wide, (*wide.shape[:2], 3)))


def levels(values: np.ndarray) -> np.ndarray:
    """Standardised values as shades, uint8."""
    wide = values.astype(np.float32)
    scaled = (wide - wide.mean()) / (wide.std() + 1e-6)
    return np.rint(255 * np.clip((scaled + _DEVIATIONS) / (2 * _DEVIATIONS), 0, 1)).astype(np.uint8)


def png(picture: np.ndarray) -> str:
    """A picture as a data URI."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
