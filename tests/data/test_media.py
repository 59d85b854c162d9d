import wave
from pathlib import Path

import av
import numpy as np
import pytest

from mm_ray.data.media.decode import read_audio
from mm_ray.errors import UserError

MEDIA = Path(__file__).parents[3] / "shared" / "data" / "media"
needs_media = pytest.mark.skipif(not MEDIA.is_dir(), reason=f"no {MEDIA.parent.name}/{MEDIA.name} beside the repository")


def write_wav(path, samples_NC, rate):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples_NC.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples_NC.astype("<i2").tobytes())
    return path


def test_mono_is_read_exactly(tmp_path):
    samples = np.array([[0], [16384], [-32768], [1]])
    waveform_N, rate = read_audio(write_wav(tmp_path / "a.wav", samples, 8_000))
    assert rate == 8_000
    assert waveform_N.dtype == np.float32
    assert waveform_N.tolist() == [0.0, 0.5, -1.0, 1 / 32768]


def test_stereo_is_mixed_by_the_mean(tmp_path):
    samples = np.array([[16384, 0], [-16384, 16384]] * 3000)
    waveform_N, rate = read_audio(write_wav(tmp_path / "a.wav", samples, 44_100))
    assert rate == 44_100
    assert waveform_N.tolist() == [0.25, 0.0] * 3000


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp4"])
def test_other_containers(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 48_000)).astype(np.float32)
    with av.open(str(path), "w") as container:
        codec = {"flac": "flac", "ogg": "libopus", "mp4": "aac"}[suffix]
        stream = container.add_stream(codec, rate=48_000)
        stream.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    waveform_N, rate = read_audio(path)
    assert rate == 48_000
    assert abs(len(waveform_N) - 24_000) <= 2048
    assert abs(np.abs(waveform_N[4000:20_000]).max() - 0.5) < 0.05


def garbage(folder):
    (folder / "x.wav").write_bytes(b"this is not audio, whatever its name says" * 50)


def empty(folder):
    (folder / "x.wav").write_bytes(b"")


def no_samples(folder):
    write_wav(folder / "x.wav", np.zeros((0, 1)), 8_000)


def missing(folder):
    pass


def a_folder(folder):
    (folder / "x.wav").mkdir()


@pytest.mark.parametrize("spoil", [garbage, empty, no_samples, missing, a_folder])
def test_what_cannot_be_read_is_one_line_with_the_path(tmp_path, spoil):
    spoil(tmp_path)
    with pytest.raises(UserError, match=r"x\.wav: .*(give a|check the path)") as caught:
        read_audio(tmp_path / "x.wav")
    assert "\n" not in str(caught.value)


@needs_media
def test_real_files():
    waveform_N, rate = read_audio(MEDIA / "bigbuckbunny.mp4")
    assert rate > 0
    assert np.abs(waveform_N).max() > 0.01
    assert not read_audio(MEDIA / "world.mp4")[0].any()
    with pytest.raises(UserError, match="has no audio track"):
        read_audio(MEDIA / "bikes.mp4")
