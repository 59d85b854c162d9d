"""Pictures of the chosen configuration for TensorBoard: the student's confusion matrix and some test clips' spectrograms."""

import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from mm_ray.data.feature_table import FeatureTable
from mm_ray.runtime.tensorboard import begin_events

MAX_CLIPS = 8
CELL, MARGIN, ZOOM = 26, 90, 3
DARK, LIGHT = (11, 80, 60), (245, 248, 247)


def write_images(logdir: Path, confusion_CC: np.ndarray, table: FeatureTable) -> None:
    """Write `confusion/student` (rows: true classes, their share of predictions as shade and in %) and `clips/CLASS`.

    Args:
        logdir: Folder of the run that TensorBoard shows.
        confusion_CC: Counts on the test set.
        table: The features; the first test clip of each of the first `MAX_CLIPS` classes is shown.

    """
    writer = begin_events(logdir)
    pictures = {"confusion/student": confusion_picture(confusion_CC, table.class_names)}
    rows = table.rows("test")
    for label, name in enumerate(table.class_names[:MAX_CLIPS]):
        of_class = rows[table.labels_N[rows] == label]
        if len(of_class):
            pictures[f"clips/{name}"] = spectrogram_picture(_frames(table, int(of_class[0])))
    for tag, picture in pictures.items():
        writer.add_event(Event(wall_time=time.time(), step=0, summary=_summary(tag, picture)))
    writer.close()


def confusion_picture(confusion_CC: np.ndarray, names: Sequence[str]) -> Image.Image:
    """One cell a pair of classes, darker for a larger share of the row."""
    shares_CC = confusion_CC / np.maximum(confusion_CC.sum(1, keepdims=True), 1)
    side = MARGIN + CELL * len(names)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(names):
        draw.text((4, MARGIN + row * CELL + 7), name[:13], fill="black")
        draw.text((MARGIN + row * CELL + 4, MARGIN - 14), str(row), fill="black")
        for column, share in enumerate(shares_CC[row]):
            corner = (MARGIN + column * CELL, MARGIN + row * CELL)
            shade = tuple(round(light + (dark - light) * share) for light, dark in zip(LIGHT, DARK, strict=True))
            draw.rectangle((*corner, corner[0] + CELL - 2, corner[1] + CELL - 2), fill=shade)
            if round(100 * share):
                draw.text((corner[0] + 4, corner[1] + 7), f"{100 * share:.0f}", fill="white" if share > 0.5 else "black")
    draw.text((4, 4), "rows: true class; columns: predicted class; % of the row", fill="black")
    return picture


def spectrogram_picture(audio_TF: np.ndarray) -> Image.Image:
    """Time to the right, low frequencies at the bottom, louder is brighter."""
    low, high = np.percentile(audio_TF, [2, 98])
    shades_FT = np.clip((audio_TF - low) / max(high - low, 1e-6), 0, 1).T[::-1]
    picture = Image.fromarray(np.rint(255 * shades_FT).astype(np.uint8), "L")
    return picture.resize((picture.width * ZOOM, picture.height * ZOOM), Image.Resampling.NEAREST).convert("RGB")


def _frames(table: FeatureTable, row: int) -> np.ndarray:
    start, stop = table.audio_offsets_N1[row : row + 2]
    frames_TF: np.ndarray = table.audio_flat_XF[start:stop].astype(np.float32)
    return frames_TF


def _summary(tag: str, picture: Image.Image) -> Summary:
    png = io.BytesIO()
    picture.save(png, "PNG")
    image = Summary.Image(height=picture.height, width=picture.width, colorspace=3, encoded_image_string=png.getvalue())
    return Summary(value=[Summary.Value(tag=tag, image=image)])
