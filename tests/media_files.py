"""Small media files made with PyAV, whose tones and colours are known."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CODECS = {  # container: video, audio
    "mp4": ("libx264", "aac"),
    "mkv": ("ffv1", "flac"),
    "avi": ("mpeg4", "libmp3lame"),
    "webm": ("libvpx", "libopus"),
    "flv": ("flv", "libmp3lame"),
}


def tone(hz, seconds, rate, loudness=0.5):
    return (loudness * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def brightness(frames):
    """Video features of a user: one number a frame."""
    return frames.reshape(len(frames), -1).mean(axis=1, keepdims=True)


def colour_at(second):
    """The colour of the films below in a second: a different one each."""
    return ((40 * second) % 256, (200 - 30 * second) % 256, (90 * second) % 256)


def write_wav(path, waveform_N, rate=16_000):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(waveform_N * 32767).astype("<i2").tobytes())
    return path


def film_frames(seconds, fps, size=(64, 48)):
    """One colour a second, with a white square that moves from left to right within each second."""
    for index in range(round(seconds * fps)):
        image = np.empty((size[1], size[0], 3), np.uint8)
        image[:] = colour_at(index // fps)
        left = (size[0] - 8) * (index % fps) // fps
        image[:8, left : left + 8] = 255
        yield image


def write_film(
    path,
    seconds=2.0,
    hz=440,
    fps=10,
    size=(64, 48),
    gop=12,
    layout="stereo",
    rate=48_000,
    sound=True,
    picture=True,
    form=None,
    options=None,
    times=None,
    container_options=None,
):
    """A film of `film_frames` with a tone; `form` is the container if the name's ending lies."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    form = form or path.suffix[1:]
    video_codec, audio_codec = CODECS[form]
    with av.open(str(path), "w", format={"mkv": "matroska"}.get(form, form), options=container_options or {}) as container:
        video = container.add_stream(video_codec, rate=fps, options=options or {}) if picture else None
        audio = container.add_stream(audio_codec, rate=_rate(audio_codec, rate), layout=layout) if sound else None
        if video:
            video.width, video.height, video.gop_size = *size, gop
            video.pix_fmt = "bgr0" if video_codec == "ffv1" else "yuv420p"
            if times is not None:
                video.codec_context.time_base = Fraction(1, 1000)
        packets = []
        if video:
            for index, image in enumerate(film_frames(seconds, fps, size)):
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts = index if times is None else times[index]
                frame.time_base = Fraction(1, fps) if times is None else Fraction(1, 1000)
                packets += video.encode(frame)
            packets += video.encode(None)
        if audio:
            packets += list(_encoded(audio, hz, seconds, layout, _rate(audio_codec, rate)))
        for packet in sorted(packets, key=lambda p: float((p.dts if p.dts is not None else p.pts) * p.time_base)):
            container.mux(packet)
    return path


def _rate(codec, rate):
    return 44_100 if codec == "libmp3lame" else rate


def _encoded(stream, hz, seconds, layout, rate):
    mono_N = tone(hz, seconds, rate) if hz else np.zeros(round(seconds * rate), np.float32)
    channels = av.AudioLayout(layout).nb_channels
    packed = stream.codec_context.name == "flac"
    samples = np.rint(mono_N * 32767).astype(np.int16) if packed else mono_N
    block = np.repeat(samples[None, :], channels, axis=0)
    if packed:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T).reshape(1, -1), format="s16", layout=layout)
    else:
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    yield from stream.encode(frame)
    yield from stream.encode(None)


def write_picture(path, colour=(255, 0, 0), size=(40, 30)):
    """A PNG or JPEG of one colour."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), colour, np.uint8), "rgb24")
    codec = av.CodecContext.create("png" if path.suffix == ".png" else "mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = *size, "rgb24" if path.suffix == ".png" else "yuvj420p"
    codec.time_base = Fraction(1, 25)
    path.write_bytes(b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)]))
    return path
