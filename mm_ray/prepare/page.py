"""`inspect.html`: what is in a store, and the spectrograms, frames and sound of a few of its clips.

Shape suffixes: T audio frames, F audio bins, S video frames, D video features, H height, W width.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from PIL import Image

from mm_ray.config import PRECOMPUTED, DataConfig, FeatureConfig
from mm_ray.data.feature_row import read_clip_audio
from mm_ray.data.feature_store_reader import names_broken, read_columns
from mm_ray.data.features.log_mel import bins_of, resampled
from mm_ray.data.manifest import Clip, find_manifest, label_name, own_load
from mm_ray.data.media.errors import FLAGS, REASONS
from mm_ray.errors import UserError
from mm_ray.prepare.inspect import HEADS, Contents, StoreFacts
from mm_ray.report.data import ShownClip, data_page
from mm_ray.storage import join, write_text

PAGE = "inspect.html"
NUM_SHOWN = 12
SOUND_RATE = 24_000
SOUND_S = 10.0
"""Seconds of a clip that are embedded at most: about 60 kB."""
SOUND_BITS_PER_S = 48_000
_DEVIATIONS = 3.0
"""Features this many standard deviations below and above their mean are black and white."""
FREQUENCIES = (250, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
"""Hz, at the axis of a spectrogram."""
HOW_TO_HEAR = (
    "Without sound, since a store holds features only: python -m mm_ray.prepare SOURCE ROOT --inspect STORE also reads the "
    "recordings below ROOT and adds a player for each clip."
)


def write_page(contents: Contents, facts: StoreFacts, recordings: DataConfig | None = None) -> str:
    """Write `inspect.html` into the store; returns its place.

    Args:
        contents: The store.
        facts: The same, counted.
        recordings: The data set that the store was prepared from, for the sound of the clips; a store has features only.

    """
    place = join(contents.place, PAGE)
    write_text(place, page(contents, facts, recordings))
    return place


def page(contents: Contents, facts: StoreFacts, recordings: DataConfig | None = None) -> str:
    """The page's text: the counts, and clips evenly spread over the store."""
    data = recordings and replace(recordings, features=contents.settings.features)
    count = min(NUM_SHOWN, len(contents.clips))
    chosen = [contents.clips.slice(i * len(contents.clips) // count, 1).to_pylist()[0] for i in range(count)]
    return data_page(
        facts.title, HEADS, facts.classes, facts.groups, facts.seconds, facts.durations, facts.warnings,
        {"Flags of clips that are kept": [(n, name, FLAGS.get(name, "")) for name, n in facts.flags.most_common()],
         "Rejected": [(n, name, REASONS.get(name, "")) for name, n in facts.reasons.most_common()]},
        [_shown(contents, clip, data) for clip in chosen], "" if data else HOW_TO_HEAR,
    )  # fmt: skip


def _shown(contents: Contents, clip: dict[str, Any], data: DataConfig | None) -> ShownClip:
    shard = read_columns(clip["shard"], ("audio", "video", "start_s", "end_s")).slice(clip["position"], 1)
    with names_broken(clip["shard"]):
        audio_TF = shard["audio"][0].values.to_numpy().reshape(clip["audio_frames"], -1)
        video_SD = shard["video"][0].values.to_numpy().reshape(clip["video_frames"], -1) if clip["video_frames"] else None
    label = label_name(clip["label"], contents.settings.class_names)
    facts = [label, f"group {clip['group']}", "/".join(clip["splits"]), f"{clip['seconds']:.2f} s", *clip["flags"]]
    features = contents.settings.features
    hop_s = features.hop_ms / 1000 if features.audio == "log_mel" else None
    frames = png(frames_side_by_side(video_SD, contents)) if video_SD is not None else ""
    span = {name: shard[name][0].as_py() for name in ("start_s", "end_s")}
    sound, silence = sound_of(clip | span, data) if data else ("", "")
    return ShownClip(clip["clip_id"], ", ".join(facts), levels(audio_TF).T, hop_s, _axis(features), frames, sound, silence)


def _axis(features: FeatureConfig) -> dict[int, float]:
    """Where `FREQUENCIES` lie among the bins."""
    bins_K = bins_of(np.array(FREQUENCIES), features) if features.audio == "log_mel" else ()
    return {hz: float(at) for hz, at in zip(FREQUENCIES, bins_K, strict=False) if 0 <= at <= features.num_mels - 1}


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


def sound_of(clip: Mapping[str, Any], data: DataConfig) -> tuple[str, str]:
    """A clip's beginning as an MP3 data URI, and empty text; or no URI, and why there is none.

    Args:
        clip: A row of the store, with its columns by name.
        data: Where the recordings are, and the store's feature settings.

    """
    if data.features.audio == PRECOMPUTED:
        return "", "its audio features were precomputed"
    names = ("label", "group", "source", "start_s", "end_s")
    one = Clip(clip["clip_id"], splits=tuple(clip["splits"]), **{name: clip[name] for name in names})
    load = own_load(find_manifest(data.name))
    try:
        media = load(one, data) if load else read_clip_audio(one, data, SOUND_S)
    except UserError as error:
        return "", str(error)
    return mp3(media.waveform_N[: round(SOUND_S * media.sample_rate)], media.sample_rate), ""


def mp3(waveform_N: np.ndarray, sample_rate: int) -> str:
    """A mono waveform (N,) in [-1, 1] as a data URI."""
    sound_N = resampled(np.ascontiguousarray(waveform_N, np.float32), sample_rate, SOUND_RATE)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream: AudioStream = container.add_stream("libmp3lame", rate=SOUND_RATE, layout="mono")
        stream.bit_rate = SOUND_BITS_PER_S
        frame = av.AudioFrame.from_ndarray(sound_N[None], "fltp", "mono")
        frame.sample_rate = SOUND_RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return f"data:audio/mpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
