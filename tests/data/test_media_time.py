"""Time: whatever a file's clock, header or channels say, samples and frames lie where they belong on the recording's clock."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from media_files import tone, write_wav

from mm_ray.data.media.decode import DecodeRequest, read_audio, read_media
from mm_ray.data.media.errors import MediaError

RATE, FPS = 16_000, 5


def write_steps(path, form, codecs=("ffv1", "pcm_s16le"), sound_s=(0.0, 6.0), sound_at_s=0.0, film_at_s=0.0, options=None):
    """Six seconds: sound whose loudness is second / 10, frames whose grey is 20 * second; `sound_s` are pieces with a gap."""
    with av.open(str(path), "w", format=form, options=options or {}) as container:
        video, audio = container.add_stream(codecs[0], rate=FPS), container.add_stream(codecs[1], rate=RATE, layout="mono")
        video.width = video.height = 32
        video.pix_fmt, video.gop_size = "yuv420p", FPS
        packets = []
        for number in range(6 * FPS):
            grey = np.full((32, 32), 20 * (number // FPS + 1), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, "gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = number + round(film_at_s * FPS), Fraction(1, FPS)
            packets += video.encode(frame)
        size = audio.codec_context.frame_size or 1000
        samples_N = np.repeat(np.arange(1, 7) * 3276, RATE).astype(np.int16)
        for begin_s, end_s in zip(sound_s[::2], sound_s[1::2], strict=True):
            for at in range(round(begin_s * RATE), round(end_s * RATE), size):
                piece_N = samples_N[at : min(at + size, round(end_s * RATE))]
                frame = av.AudioFrame.from_ndarray(piece_N[None], "s16", "mono")
                frame.pts, frame.sample_rate, frame.time_base = at + round(sound_at_s * RATE), RATE, Fraction(1, RATE)
                packets += audio.encode(frame)
        packets += [*video.encode(None), *audio.encode(None)]
        for packet in sorted(packets, key=lambda p: float((p.dts if p.dts is not None else p.pts) * p.time_base)):
            container.mux(packet)
    return path


def steps(media):
    """The loudness in the middle of each second, in tenths; 0 is silence."""
    middles = media.waveform_N[media.sample_rate // 2 :: media.sample_rate]
    return [round(float(value) * 10) for value in middles]


def greys(media):
    return [round(float(frame.mean()) / 20) for frame in media.frames]


@pytest.mark.parametrize("form", ["matroska", "mov", "mpegts", "nut"])
@pytest.mark.parametrize("offset_s", [0, 5, 3600])
def test_a_span_is_on_the_recordings_clock_not_the_files(tmp_path, form, offset_s):
    codecs = ("mpeg2video", "mp2") if form == "mpegts" else ("mpeg4", "pcm_s16le")
    path = write_steps(tmp_path / "a", form, codecs, options={"output_ts_offset": str(offset_s)})
    part = read_media(path, DecodeRequest(start_s=2.0, end_s=4.0))
    assert (part.seconds, len(part.waveform_N)) == (2.0, 2 * RATE)
    assert greys(part) == [3, 4]
    whole = read_media(path, DecodeRequest())
    assert whole.seconds == pytest.approx(6, abs=0.2)
    assert greys(whole)[:5] == [1, 2, 3, 4, 5]
    if form != "mpegts":
        assert (steps(part), steps(whole)) == ([3, 4], [1, 2, 3, 4, 5, 6])


def test_sound_that_begins_late_is_silence_before(tmp_path):
    path = write_steps(tmp_path / "a.mkv", "matroska", sound_at_s=2.0)
    assert steps(read_media(path, DecodeRequest())) == [0, 0, 1, 2, 3, 4, 5, 6]
    early = read_media(path, DecodeRequest(start_s=0.0, end_s=1.5))
    assert (len(early.waveform_N), early.waveform_N.any()) == (1.5 * RATE, False)
    assert early.flags == ("silent", "audio_gap")
    assert steps(read_media(path, DecodeRequest(start_s=0.0, end_s=3.0))) == [0, 0, 1]
    assert steps(read_media(path, DecodeRequest(start_s=3.0, end_s=5.0))) == [2, 3]


def test_a_gap_in_the_sound_is_silence(tmp_path):
    path = write_steps(tmp_path / "a.mkv", "matroska", sound_s=(0.0, 2.0, 4.0, 6.0))
    assert steps(read_media(path, DecodeRequest())) == [1, 2, 0, 0, 5, 6]
    assert steps(read_media(path, DecodeRequest(start_s=0.0, end_s=4.0))) == [1, 2, 0, 0]
    assert steps(read_media(path, DecodeRequest(start_s=3.0, end_s=6.0))) == [0, 5, 6]


def test_a_span_after_the_sound_is_silence(tmp_path):
    path = write_steps(tmp_path / "a.mkv", "matroska", sound_s=(0.0, 2.0))
    media = read_media(path, DecodeRequest(start_s=3.0, end_s=5.0))
    assert (steps(media), greys(media)) == ([0, 0], [4, 5])


def test_no_picture_from_behind_the_span(tmp_path):
    path = write_steps(tmp_path / "a.mkv", "matroska", film_at_s=2.0)
    assert read_media(path, DecodeRequest(start_s=0.0, end_s=1.5)).frames is None
    assert greys(read_media(path, DecodeRequest(start_s=1.0, end_s=4.0))) == [1, 2]


@pytest.mark.parametrize("span", [(-1.0, 2.0), (3.0, 3.0), (float("nan"), 2.0), (9.0, 10.0)])
def test_a_span_outside_is_refused(tmp_path, span):
    path = write_wav(tmp_path / "a.wav", tone(300, 5, 8000), 8000)
    with pytest.raises(MediaError) as caught:
        read_media(path, DecodeRequest(*span))
    assert caught.value.reason == "span_outside"


def write_sound(path, form, codec, waveform_N, rate):
    with av.open(str(path), "w", format=form, options={"write_xing": "0"} if form == "mp3" else {}) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.codec_context.open()
        for at in range(0, len(waveform_N), stream.codec_context.frame_size):
            frame = av.AudioFrame.from_ndarray(waveform_N[None, at : at + stream.codec_context.frame_size], "fltp", "mono")
            frame.pts, frame.sample_rate, frame.time_base = at, rate, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def loudest_hz(waveform_N, rate):
    return np.abs(np.fft.rfft(waveform_N)).argmax() * rate / len(waveform_N)


def test_a_change_of_the_sample_rate_is_heard_at_one_rate(tmp_path):
    parts = [write_sound(tmp_path / f"{rate}.mp3", "mp3", "libmp3lame", tone(500, 2, rate), rate) for rate in (22_050, 44_100)]
    (tmp_path / "joined.mp3").write_bytes(b"".join(part.read_bytes() for part in parts))
    media = read_media(tmp_path / "joined.mp3", DecodeRequest())
    assert "rate_changes" in media.flags
    assert len(media.waveform_N) / media.sample_rate == pytest.approx(4, abs=0.2)
    for begin in (0.5, 2.5):
        part_N = media.waveform_N[round(begin * media.sample_rate) :][: media.sample_rate]
        assert loudest_hz(part_N, media.sample_rate) == pytest.approx(500, abs=2)


@pytest.mark.parametrize(("form", "codec"), [("adts", "aac"), ("mp3", "libmp3lame")])
def test_a_length_that_was_guessed_is_measured(tmp_path, form, codec):
    noise_N = np.random.default_rng(0).standard_normal(22_050 * 3).astype(np.float32) / 4
    for name, waveform_N in (
        ("quiet", np.concatenate([noise_N * 0, noise_N])),
        ("loud", np.concatenate([noise_N, noise_N * 0])),
    ):
        path = write_sound(tmp_path / f"{name}.{form}", form, codec, waveform_N, 22_050)
        assert read_media(path, DecodeRequest()).seconds == pytest.approx(6, abs=0.2)
        assert len(read_media(path, DecodeRequest(start_s=5.0, end_s=6.0)).waveform_N) == 22_050


def wav_bytes(samples_NC, rate=8_000, claimed=None, riff=None):
    form, bits = (3, 32) if samples_NC.dtype == np.float32 else (1, 16)
    block, data = samples_NC.shape[1] * bits // 8, samples_NC.tobytes()
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, form, samples_NC.shape[1], rate, rate * block, block, bits)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", len(data) if claimed is None else claimed) + data
    return struct.pack("<4sI", b"RIFF", len(body) if riff is None else riff) + body


TONE_N1 = np.rint(tone(440, 0.5, 8_000) * 32_767).astype(np.int16)[:, None]


@pytest.mark.parametrize("claimed", [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36, 8_001, 8_008, 8_044])
def test_a_wav_whose_header_errs_is_whole(tmp_path, claimed):
    for riff in (None, claimed, min(claimed + 36, 0xFFFFFFFF)):
        (tmp_path / "a.wav").write_bytes(wav_bytes(TONE_N1, claimed=claimed, riff=riff))
        media = read_media(tmp_path / "a.wav", DecodeRequest())
        assert (len(media.waveform_N), media.flags) == (4_000, ())


@pytest.mark.parametrize("left", [0.1, 0.5, 0.9])
def test_a_wav_that_was_cut_is_not(tmp_path, left):
    content = wav_bytes(TONE_N1)
    (tmp_path / "a.wav").write_bytes(content[: round(len(content) * left)])
    with pytest.raises(MediaError) as caught:
        read_audio(tmp_path / "a.wav", 0.01)
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e29])
@pytest.mark.parametrize("channel", [0, 2])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value, channel):
    samples_NC = np.repeat(tone(440, 0.5, 8_000)[:, None], 3, axis=1)
    samples_NC[1000, channel], samples_NC[1000, 1] = value, -value
    (tmp_path / "a.wav").write_bytes(wav_bytes(samples_NC))
    with pytest.raises(MediaError) as caught:
        read_audio(tmp_path / "a.wav")
    assert caught.value.reason == "damaged"


@pytest.mark.parametrize("channels", [3, 7, 8, 9, 24, 64])
def test_any_number_of_channels_is_mixed_by_the_mean(tmp_path, channels):
    samples_NC = TONE_N1 // np.arange(1, channels + 1)
    (tmp_path / "a.wav").write_bytes(wav_bytes(samples_NC.astype(np.int16)))
    media = read_media(tmp_path / "a.wav", DecodeRequest())
    np.testing.assert_allclose(media.waveform_N, samples_NC.mean(axis=1) / 32_768, atol=1e-6)
    assert media.flags == ("multichannel",)


def test_channels_in_an_order_of_their_own(tmp_path):
    with av.open(str(tmp_path / "a.caf"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8_000, layout="7.1")
        frame = av.AudioFrame.from_ndarray(np.repeat(TONE_N1, 8, axis=1).reshape(1, -1), "s16", "7.1")
        frame.pts, frame.sample_rate, frame.time_base = 0, 8_000, Fraction(1, 8_000)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    for _ in range(20):  # the second free of one list need not crash at once
        np.testing.assert_allclose(read_audio(tmp_path / "a.caf")[0], TONE_N1[:, 0] / 32_768, atol=1e-6)


def test_of_a_long_recording_only_what_is_wanted_is_read(tmp_path):
    head = wav_bytes(np.zeros((0, 2), np.int16), 48_000, claimed=1800 * 192_000, riff=1800 * 192_000 + 36)
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 1800 * 192_000)
    waveform_N, rate = read_audio(tmp_path / "a.wav", 10.0)
    assert len(waveform_N) <= 10.3 * rate


@pytest.mark.parametrize("name", ["a.ts", "a.m2ts", "a.MTS", "a", "a.2021", "a.download"])
def test_a_right_name_is_not_flagged(tmp_path, name):
    assert read_media(write_steps(tmp_path / name, "mpegts", ("mpeg2video", "mp2")), DecodeRequest()).flags == ()


def test_a_wrong_name_is_flagged(tmp_path):
    assert (
        "wrong_extension" in read_media(write_steps(tmp_path / "a.mp4", "mpegts", ("mpeg2video", "mp2")), DecodeRequest()).flags
    )


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "not_downloaded", "git lfs pull"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), "not_media", "Thumbs.db"),
        (b'File type = "ooTextFile"\nObject class = "TextGrid"\n' * 20, "not_media", "TextGrid"),
        (b"<!DOCTYPE html><html><body>404</body></html>" * 20, "not_media", "web page"),
    ],
)
def test_what_is_no_recording_is_named(tmp_path, content, reason, detail):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(MediaError, match=detail) as caught:
        read_audio(tmp_path / "a.wav")
    assert caught.value.reason == reason
