"""The pictures of the chosen configuration, as TensorBoard reads them."""

import io

import numpy as np
import pytest
from fed.tiny import table_of, tiny_config
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mm_ray.report.tensorboard_images import CELL, MARGIN, confusion_picture, spectrogram_picture, write_images


def test_tensorboard_has_the_confusion_matrix_and_a_clip_of_each_class(tmp_path):
    table = table_of(tiny_config().data)
    write_images(tmp_path, np.eye(4, dtype=int), table)
    board = EventAccumulator(str(tmp_path)).Reload()
    tags = {"confusion/student", *(f"clips/{name}" for name in table.class_names)}
    assert set(board.Tags()["images"]) == tags
    for tag in tags:
        (event,) = board.Images(tag)
        assert Image.open(io.BytesIO(event.encoded_image_string)).size == (event.width, event.height)


def test_a_cell_is_as_dark_as_its_share_of_the_row():
    picture = confusion_picture(np.array([[3, 1], [0, 0]]), ["a", "b"])

    def shade(row, column):
        return sum(picture.getpixel((MARGIN + column * CELL + 1, MARGIN + row * CELL + 1)))

    assert shade(0, 0) < shade(0, 1) < shade(1, 0) == shade(1, 1)


def test_a_spectrogram_has_low_frequencies_at_the_bottom():
    audio_TF = np.zeros((10, 4), np.float32)
    audio_TF[:, 0] = 1.0
    picture = spectrogram_picture(audio_TF)
    assert picture.getpixel((5, picture.height - 1)) == (255, 255, 255)
    assert picture.getpixel((5, 0)) == (0, 0, 0)
    assert picture.width / picture.height == pytest.approx(10 / 4)
