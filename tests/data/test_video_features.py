"""What frames become: pixels, MobileNetV2's pooled map, or what a function of the user's makes of them."""

import re
import sys
import types

import numpy as np
import pytest
import torch
from media_files import colour_at, write_film
from own_code import forget

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.feature_store import shards
from mm_ray.data.feature_store_reader import read_header
from mm_ray.data.features import mobilenet_v2
from mm_ray.data.load import load_data
from mm_ray.data.video_features import find_recipe, video_features, video_identity
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main

PIXELS = DataConfig()


def test_video_frames_are_evenly_spaced_small_and_standardised():
    frames = np.repeat(np.arange(20, dtype=np.uint8), 32 * 32).reshape(20, 32, 32)
    video_SD = video_features(frames, PIXELS).astype(np.float32)
    assert video_SD.shape == (10, 256)
    np.testing.assert_allclose(np.diff(video_SD[:, 0]), np.diff(video_SD[:, 0])[0], rtol=1e-2)
    assert abs(video_SD.mean()) < 1e-3
    assert abs(video_SD.std() - 1) < 1e-3


def test_rgb_of_equal_channels_is_grey():
    grey = np.random.default_rng(0).integers(0, 256, (3, 24, 40), dtype=np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_allclose(video_features(rgb, PIXELS), video_features(grey, PIXELS), atol=2e-3)


def test_black_frames_are_finite():
    assert (video_features(np.zeros((2, 8, 8), np.uint8), PIXELS) == 0).all()


def test_colour_frames_keep_their_colours():
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[0, ..., 0] = frames[1, ..., 2] = 255
    video_SD = video_features(frames, DataConfig(features=FeatureConfig(video_size=2, video_color="rgb")))
    low, high = video_SD.min(), video_SD.max()
    assert video_SD.tolist() == [[high, low, low] * 4, [low, low, high] * 4]


OWN = """
import numpy as np

def mean_colour(frames):
    assert frames.shape[1:] == (48, 64, 3), frames.shape
    return frames.reshape(len(frames), -1, 3).mean(axis=1)

def one_too_few(frames):
    return np.zeros((len(frames) - 1, 2))

def wider_if_longer(frames):
    return np.zeros((len(frames), len(frames)))

def much(frames):
    return np.full((len(frames), 2), 1e6)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of two films, and a module `own_video` with functions of a user."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_video.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "own_video", raising=False)
    find_recipe.cache_clear()
    write_film(tmp_path / "root" / "a" / "0.mkv", seconds=2)
    write_film(tmp_path / "root" / "b" / "0.mkv", seconds=1, hz=500)
    return tmp_path


def prepare(base, video, *flags, out="store"):
    flags = ["--data.features.video", video, "--out", str(base / out), "--serial", *flags]
    main(["folder", str(base / "root"), *flags])
    return load_data(DataConfig(name=str(base / out)), "unused")


def test_a_function_of_the_user_s(own):
    table = prepare(own, "own_video:mean_colour")
    assert table.video_flat_XD.shape == (3, 3)
    behind = np.array([colour_at(0), colour_at(1), colour_at(0)]) * (1 - 64 / (64 * 48)) + 255 * 64 / (64 * 48)
    np.testing.assert_allclose(table.video_flat_XD.astype(float), behind, rtol=2e-3)
    assert "own_video:mean_colour" in read_header(shards(own / "store")).settings.video_identity


def test_changed_code_refuses_to_mix(own):
    prepare(own, "own_video:mean_colour")
    (own / "code" / "own_video.py").write_text(OWN.replace("mean(axis=1)", "mean(axis=1) / 2"))
    write_film(own / "root" / "b" / "1.mkv", seconds=1, hz=600)
    forget(own)  # a process keeps the code that it has loaded
    find_recipe.cache_clear()
    with pytest.raises(UserError, match=r"^--data.features.video 'own_video:mean_colour \w+': .* was prepared with own_video"):
        prepare(own, "own_video:mean_colour")


@pytest.mark.parametrize(
    ("video", "problem"),
    [
        ("own_video:one_too_few", r"one_too_few: returned shape \(1, 2\) for 2 frames; return \(2, D\)"),
        ("own_video:much", r"much: returned numbers that are not finite as float16"),
        ("own_video:wider_if_longer", r"gives clips different numbers of features per frame, \[1, 2\]"),
        ("own_video:nothing", r"^--data.features.video own_video:nothing: own_video has no function nothing"),
        ("nowhere.to:f", r"^--data.features.video nowhere.to: cannot be imported .* PYTHONPATH\?"),
        ("pixel", r"^--data.features.video pixel: did you mean 'pixels'\?"),
    ],
)
def test_mistakes_of_a_user_s_function(own, video, problem):
    with pytest.raises(UserError, match=problem):
        prepare(own, video)


class Means(torch.nn.Module):
    """In the place of MobileNetV2: each output is a weighted sum of the colours of a square of 32 x 32."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Conv2d(3, 4, 32, stride=32, bias=False)


@pytest.fixture
def stand_in(own, monkeypatch):
    """A torchvision of our own with weights that give the means of red, green, blue and of all."""
    models = types.ModuleType("torchvision.models")
    models.mobilenet_v2 = lambda weights: Means()
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    mobilenet_v2._network.cache_clear()
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]]) / 32**2
    weights = {"features.weight": rows[:, :, None, None].expand(4, 3, 32, 32).clone(), "classifier.1.weight": torch.zeros(5)}
    torch.save(weights, own / "weights.pth")
    yield own
    mobilenet_v2._network.cache_clear()


def test_mobilenet_sees_the_middle_standardised(stand_in):
    frames = np.zeros((11, 240, 320, 3), np.uint8)
    frames[:, :, 50:-50] = (255, 51, 102)  # what lies at the sides is cut off
    data = DataConfig(
        features=FeatureConfig(video="mobilenet_v2", max_video_frames=10), video_weights=str(stand_in / "weights.pth")
    )
    expected = [(1.0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.4 - 0.406) / 0.225]
    features_SD = video_features(frames, data)
    assert features_SD.dtype == np.float16
    np.testing.assert_allclose(features_SD, [[*expected, np.mean(expected)]] * 10, rtol=2e-3)
    grey = video_features(np.full((2, 28, 28), 51, np.uint8), data)
    np.testing.assert_allclose(grey[:, 1], expected[1], rtol=2e-3)


def test_mobilenet_from_films_to_a_store(stand_in):
    table = prepare(stand_in, "mobilenet_v2", "--weights", str(stand_in / "weights.pth"))
    assert table.video_flat_XD.shape == (3, 4)
    red = (table.video_flat_XD[:, 0].astype(float) * 0.229 + 0.485) * 255
    behind = np.array([colour_at(0)[0], colour_at(1)[0], colour_at(0)[0]])
    assert (np.abs(red - behind) < 8).all()  # the white square is in it
    name = read_header(shards(stand_in / "store")).settings.video_identity
    assert re.fullmatch(r"mobilenet_v2 [0-9a-f]{16}", name)
    (stand_in / "weights.pth").rename(stand_in / "moved.pth")
    assert video_identity(DataConfig(features=table.features, video_weights=str(stand_in / "moved.pth"))) == name


def test_missing_weights_say_how_to_get_them(stand_in, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(stand_in / "empty"))
    get = "download https://download.pytorch.org/models/mobilenet_v2-b0353104.pth and give it with --weights FILE$"
    with pytest.raises(UserError, match=rf"^--data.video_weights '': torchvision's cache has no .*empty.*; {get}"):
        prepare(stand_in, "mobilenet_v2")
    with pytest.raises(UserError, match=f"^--data.video_weights nowhere.pth: no such file; {get}"):
        prepare(stand_in, "mobilenet_v2", "--weights", "nowhere.pth")
    (stand_in / "weights.pth").write_bytes(b"something else")
    with pytest.raises(UserError, match="does not hold torchvision's mobilenet_v2; download https"):
        prepare(stand_in, "mobilenet_v2", "--weights", str(stand_in / "weights.pth"))
    (stand_in / "empty" / "hub" / "checkpoints").mkdir(parents=True)
    torch.save({"features.weight": torch.zeros(4, 3, 32, 32)}, stand_in / "empty/hub/checkpoints/mobilenet_v2-b0353104.pth")
    assert (prepare(stand_in, "mobilenet_v2").video_flat_XD == 0).all()


def test_without_torchvision_only_mobilenet_is_refused(stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match=r"^--data.features.video mobilenet_v2: needs .*pip install 'mm-ray\[video\]'"):
        prepare(stand_in, "mobilenet_v2", "--weights", str(stand_in / "weights.pth"))
    assert prepare(stand_in, "pixels").video_flat_XD.shape == (3, 256)


def test_weights_that_the_recipe_would_not_read_are_refused(stand_in):
    refused = r"^--data.video_weights w.pth: --data.features.video pixels has no weights; leave it out$"
    with pytest.raises(UserError, match=refused):
        prepare(stand_in, "pixels", "--weights", "w.pth")
    prepare(stand_in, "pixels")
    with pytest.raises(UserError, match=refused):
        load_data(DataConfig(name=str(stand_in / "store"), video_weights="w.pth"), stand_in)


def test_the_network_itself(tmp_path):
    models = pytest.importorskip("torchvision.models", reason="the extra mm-ray[video] is not installed")
    torch.manual_seed(0)
    network = models.mobilenet_v2(weights=None)
    network(torch.randn(4, 3, 224, 224))  # its norms settle, else all comes out near zero
    network.eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    mobilenet_v2._network.cache_clear()
    frames = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    data = DataConfig(features=FeatureConfig(video="mobilenet_v2"), video_weights=str(tmp_path / "w.pth"))
    standardise = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    middle = (torch.from_numpy(frames[:, 16:240, 16:240]) / 255 - standardise[0]) / standardise[1]
    network.classifier = torch.nn.Identity()
    expected = network(middle.permute(0, 3, 1, 2)).detach().numpy()
    assert (expected.shape, expected.max() > 0.1) == ((2, 1280), True)
    np.testing.assert_allclose(video_features(frames, data), expected, rtol=2e-3, atol=1e-4)
