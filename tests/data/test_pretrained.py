"""Features of frozen pretrained encoders: the real loading code, on tiny models with random weights that a test writes."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from fed.tiny import TINY

from mm_ray.config import DataConfig, ExperimentConfig, FeatureConfig, with_overrides
from mm_ray.data.audio_features import audio_identity
from mm_ray.data.features import pretrained_audio, pretrained_torchvision
from mm_ray.data.features.pretrained_audio import load_encoder, pretrained_features
from mm_ray.data.features.pretrained_video import PretrainedVideo
from mm_ray.data.load import load_data
from mm_ray.data.video_features import find_recipe, video_features, video_identity
from mm_ray.devices import encoders_on
from mm_ray.errors import UserError
from mm_ray.evaluate.windows import predict_windows
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive, role_params
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import load_student, save_student

RATE = 16_000
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
CONVS = {"conv_dim": (4, 4), "conv_kernel": (10, 8), "conv_stride": (20, 16), "num_conv_pos_embeddings": 4}
CONVS |= {"num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2}
WHISPER = {"d_model": 8, "num_mel_bins": 16, "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
WHISPER |= {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in
            {"layers": 1, "attention_heads": 2, "ffn_dim": 8}.items()} | {"decoder_start_token_id": 0}  # fmt: skip


def transformers():
    return pytest.importorskip("transformers", reason="needs mm-ray[pretrained]")


def models():
    """Model and feature extractor by kind."""
    t = transformers()
    speech = t.Wav2Vec2FeatureExtractor(do_normalize=True)
    return {
        "wav2vec2": lambda: (t.Wav2Vec2Model(t.Wav2Vec2Config(**SIZES, **CONVS)), speech),
        "hubert": lambda: (t.HubertModel(t.HubertConfig(**SIZES, **CONVS)), speech),
        "wavlm": lambda: (t.WavLMModel(t.WavLMConfig(**SIZES, **CONVS)), speech),
        "whisper": lambda: (t.WhisperModel(t.WhisperConfig(**WHISPER)), t.WhisperFeatureExtractor(feature_size=16)),
        "ast": lambda: (
            t.ASTModel(t.ASTConfig(**SIZES, num_mel_bins=32, max_length=64)),
            t.ASTFeatureExtractor(num_mel_bins=32, max_length=64),
        ),
    }


KINDS = ("wav2vec2", "hubert", "wavlm", "whisper", "ast")
STEPS = {"whisper": 25, "ast": 5}
"""Of half a second; the speech encoders above have one step every 320 samples."""


def write(folder, kind, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, extractor = models()[kind]()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    pretrained_audio._loaded.cache_clear()
    return FeatureConfig(audio=f"transformers:{folder}")


def noise(num, seed=0):
    return np.random.default_rng(seed).standard_normal(num).astype(np.float32) * 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_waveform_becomes_hidden_states(tmp_path, kind):
    features, waveform_N = write(tmp_path, kind), noise(RATE // 2)
    hidden_TD = pretrained_features(waveform_N, RATE, features)
    assert (hidden_TD.shape, hidden_TD.dtype) == ((STEPS.get(kind, 25), 8), np.float16)
    assert np.isfinite(hidden_TD).all()
    assert hidden_TD.std(0).max() > 0
    assert hidden_TD.tobytes() == pretrained_features(waveform_N, RATE, features).tobytes()
    assert len(pretrained_features(waveform_N, RATE, replace(features, max_frames=3))) <= 3
    assert len(pretrained_features(noise(10), RATE, features)) >= 1
    resampled = pretrained_features(noise(24_000), 48_000, features)
    assert resampled.shape == hidden_TD.shape


def test_the_states_are_those_of_the_library(tmp_path):
    features, waveform_N = write(tmp_path, "wav2vec2"), noise(RATE)
    model = transformers().AutoModel.from_pretrained(tmp_path).eval()
    scaled = (waveform_N - waveform_N.mean()) / np.sqrt(waveform_N.var() + 1e-7)
    with torch.inference_mode():
        expected_TD = model(torch.from_numpy(scaled)[None]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(pretrained_features(waveform_N, RATE, features), expected_TD, atol=2e-3)


def test_other_weights_are_another_identity(tmp_path):
    one, same, other = (audio_identity(write(tmp_path / n, "hubert", seed)) for n, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert one == same != other
    assert audio_identity(FeatureConfig()) == ""


def test_threads_load_it_once(tmp_path):
    features = write(tmp_path, "hubert")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(load_encoder, [features.audio] * 8))
    assert all(encoder is found[0] for encoder in found)


def test_what_is_missing_is_one_line(tmp_path, monkeypatch):
    transformers()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    for place, text in (
        ("nobody/nothing", "is no folder, and the cache .* hf download nobody"),
        (str(tmp_path), "holds no"),
    ):
        with pytest.raises(UserError, match=rf"^--data.features.audio transformers:{place}: .*{text}") as caught:
            load_encoder(f"transformers:{place}")
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match=rf"^--data.features.video transformers:{place}: .*{text}"):
            video_identity(DataConfig(features=FeatureConfig(video=f"transformers:{place}")))


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"^--data.features.audio transformers:x: needs transformers; pip install 'mm-ray"):
        load_encoder("transformers:x")


@pytest.mark.parametrize("value", ["mel", "transformers:", "torchvision:x", ":"])
def test_audio_features_that_there_are_not(value):
    known = "log_mel, torchaudio:PIPELINE, transformers:NAME_OR_PATH or your own, mine.py:function"
    with pytest.raises(UserError, match=rf"^--audio .*: must be {known}$"):
        FeatureConfig(audio=value)


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A tiny pipeline of torchaudio's own class, whose weights lie in torch's cache."""
    import torchaudio

    params = dict(torchaudio.pipelines.WAV2VEC2_BASE._params) | {
        "extractor_conv_layer_config": [(4, 10, 20), (4, 8, 16)], "encoder_embed_dim": 8, "encoder_pos_conv_kernel": 4,
        "encoder_pos_conv_groups": 2, "encoder_num_layers": 1, "encoder_num_heads": 2, "encoder_ff_interm_features": 8,
    }  # fmt: skip
    bundle = torchaudio.pipelines.Wav2Vec2Bundle("tiny.pth", params, RATE, False, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "TINY", bundle, raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    pretrained_audio._loaded.cache_clear()
    return params, tmp_path / "checkpoints" / "tiny.pth"


def test_a_pipeline_of_torchaudio(pipeline):
    import torchaudio

    params, place = pipeline
    with pytest.raises(UserError, match=r"^--data.features.audio torchaudio:TINY: torchaudio's cache has no .*; python -c"):
        load_encoder("torchaudio:TINY")
    place.parent.mkdir()
    torch.save(torchaudio.models.wav2vec2_model(**params).state_dict(), place)
    hidden_TD = pretrained_features(noise(RATE), RATE, FeatureConfig(audio="torchaudio:TINY"))
    assert (hidden_TD.shape, hidden_TD.dtype) == ((50, 8), np.float16)
    with pytest.raises(UserError, match=r"torchaudio:NONE: torchaudio has no such pipeline of speech encoders; it has HUB"):
        load_encoder("torchaudio:NONE")
    pretrained_audio._loaded.cache_clear()
    place.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"tiny.pth cannot be loaded"):
        load_encoder("torchaudio:TINY")


def test_frames_become_pooled_outputs(tmp_path):
    t = transformers()
    model = t.ViTModel(t.ViTConfig(**SIZES, image_size=8, patch_size=4))
    model.save_pretrained(tmp_path)
    t.ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    data = DataConfig(features=FeatureConfig(video=f"transformers:{tmp_path}"))
    assert isinstance(find_recipe(data.features.video), PretrainedVideo)
    frames = np.random.default_rng(0).integers(0, 255, (10, 20, 30, 3)).astype(np.uint8)
    features_SD = video_features(frames, data)
    assert (features_SD.shape, features_SD.dtype) == ((10, 8), np.float16)
    assert np.isfinite(features_SD).all()
    alone = video_features(frames[9:], data)
    np.testing.assert_allclose(features_SD[9:], alone, atol=2e-3)
    assert video_features(frames[..., 0], data).shape == (10, 8)
    assert len(video_identity(data)) == 16
    with encoders_on("meta"), pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        video_features(frames, data)


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_and_its_input_move_to_another_device(tmp_path, kind):
    """`meta`, in a GPU's place, refuses what lies elsewhere, and has no numbers to fetch."""
    features = write(tmp_path, kind)
    with encoders_on("meta"), pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        pretrained_features(noise(RATE), RATE, features)
    assert np.isfinite(pretrained_features(noise(RATE), RATE, features)).all()


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    """A small classifier of torchvision with random weights: the model, and where torchvision's cache would have them."""
    models = pytest.importorskip("torchvision.models", reason="needs mm-ray[video]")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    pretrained_torchvision._load.cache_clear()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.shufflenet_v2_x0_5(weights=None)
        model(torch.randn(4, 3, 64, 64))  # its norms settle, else all comes out near zero
    file = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.url.rpartition("/")[2]
    return model.eval(), tmp_path / "checkpoints" / file


def test_frames_become_what_the_last_layer_of_a_classifier_reads(classifier):
    model, place = classifier
    data = DataConfig(features=FeatureConfig(video="torchvision:shufflenet_v2_x0_5"))
    with pytest.raises(UserError, match=rf"^--data.video_weights '': torchvision's cache has no {place}; download https://"):
        video_identity(data)
    place.parent.mkdir()
    torch.save(model.state_dict(), place)
    frames = np.random.default_rng(0).integers(0, 256, (10, 232, 300, 3), dtype=np.uint8)  # the side to which it scales
    middle = torch.from_numpy(frames[:, 4:228, 38:262]).permute(0, 3, 1, 2) / 255
    standardised = (middle - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    classes, model.fc = model.fc, torch.nn.Identity()
    with torch.inference_mode():
        expected_SD = model(standardised).numpy()
    features_SD = video_features(frames, data)
    assert (features_SD.shape, features_SD.dtype) == ((10, 1024), np.float16)
    np.testing.assert_allclose(features_SD, expected_SD, atol=2e-3, rtol=2e-3)
    assert video_features(frames[..., 0], data).shape == (10, 1024)
    with encoders_on("meta"), pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        video_features(frames, data)
    # A file of one's own: of as many classes as one likes, since the last layer is not read.
    identity, own = video_identity(data), place.with_name("own.pth")
    torch.save(model.state_dict() | {"fc.weight": classes.weight[:3], "fc.bias": classes.bias[:3]}, own)
    assert video_identity(replace(data, video_weights=str(own))) == identity
    torch.save({name: 2 * tensor for name, tensor in model.state_dict().items()}, own)
    pretrained_torchvision._load.cache_clear()
    assert video_identity(replace(data, video_weights=str(own))) != identity
    own.write_bytes(b"something else")
    pretrained_torchvision._load.cache_clear()
    with pytest.raises(UserError, match=r"^--data.video_weights .*own.pth: does not hold torchvision's shufflenet_v2_x0_5; d"):
        video_features(frames, replace(data, video_weights=str(own)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet81", r"torchvision has no such image classifier; did you mean torchvision:resnet\d+\?$"),
        ("", "torchvision has no such image classifier$"),
        ("squeezenet1_1", "its last layer is no linear one, so it has no features; take another model$"),
    ],
)
def test_classifiers_that_there_are_not(classifier, name, text):
    data = DataConfig(features=FeatureConfig(video=f"torchvision:{name}"), video_weights=str(classifier[1]))
    classifier[1].parent.mkdir()
    torch.save({}, classifier[1])
    with pytest.raises(UserError, match=rf"^--data.features.video torchvision:{name}: {text}"):
        video_identity(data)


def test_torchvision_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"^--data.features.video torchvision:resnet18: needs torchvision; pip install 'mm-ray"):
        video_identity(DataConfig(features=FeatureConfig(video="torchvision:resnet18")))


def test_an_experiment_and_a_prediction(tmp_path):
    features = write(tmp_path / "model", "wavlm")
    fields = TINY | {"model.conv_channels": (4, 4, 8), "phase1.rounds": 2, "phase2.rounds": 1, "model.audio_encoder": "mlp"}
    config = with_overrides(ExperimentConfig(), fields | {"data.features.audio": features.audio})
    table = load_data(config.data, tmp_path / "features")
    again = load_data(config.data, tmp_path / "features")
    assert (table.fingerprint, table.shapes.audio_bins) == (again.fingerprint, 8)
    plan, store = plan_experiment(config, table), PhaseStore(str(tmp_path / "phases"))
    done = drive(run_experiment(plan, store, SerialExecutor(), control=False))
    params = role_params(plan.method.student, done.finished.outcomes, store)
    names = tuple("abcd")
    student = load_student(save_student(tmp_path, params, config.model, table.shapes, names, config.data.features))
    times_W2, probabilities_WC = predict_windows(student, noise(RATE * 25), RATE, window_s=10)
    assert times_W2[0].tolist() == [0, 10]
    assert len(times_W2) == len(probabilities_WC) == 4
    with pytest.raises(UserError, match=r"^--data.features.audio transformers:.*: cannot be written as ONNX"):
        write_onnx(student, tmp_path / "student.onnx")
    # Other weights in the same place are other features.
    write(tmp_path / "model", "wavlm", seed=1)
    assert load_data(config.data, tmp_path / "features").fingerprint != table.fingerprint
