"""Checks a decoded file against what its container promises, and finds its flags."""

import posixpath
from pathlib import Path

from av.container import InputContainer

from mm_ray.data.media.audio_track import MAX_SAMPLE, AudioTrackReader
from mm_ray.data.media.container import first_bytes
from mm_ray.data.media.errors import MediaError
from mm_ray.data.media.header_claims import Claim, claim_of, is_whole
from mm_ray.data.media.time_range import Span, container_end, own_end, tracks_of
from mm_ray.data.media.video_track import VideoFrameSampler, varies

SLACK_S = 0.5
"""Tracks end by so much before their container says, in audio files too."""
_MOST_BAD = 0.1
"""Fraction of broken packets above which a track is given up."""
_LOWEST_HZ, _HIGHEST_HZ = 1_000, 1_000_000
_ENDINGS = {
    "mov": "mp4 m4a m4v m4b m4r mov qt 3gp 3g2 3gpp f4v f4a mj2 ismv isma",
    "matroska": "mkv mka mks mk3d webm weba",
    "mpegts": "ts mts m2ts m2t tp trp mpg mpeg tsv tsa",
    "mpeg": "mpg mpeg mpe vob m2p ps dat mod tod vro evo",
    "mpegvideo": "mpg mpeg m1v m2v mpv",
    "asf": "asf wma wmv wm",
    "avi": "avi divx xvid",
    "aiff": "aif aiff aifc",
    "ogg": "ogg oga ogv ogx opus spx",
    "mp3": "mp3 mp2 mp1 mpa mpga m2a",
    "wav": "wav wave bwf amb rf64 w64",
    "w64": "w64 wav",
    "nistsphere": "nist sph wav",
    "flac": "flac fla",
    "aac": "aac adts",
    "eac3": "eac3 ec3 ac3",
    "au": "au snd",
    "caf": "caf caff",
    "flv": "flv f4v",
    "rm": "rm ra ram rmvb",
    "amr": "amr awb 3ga",
    "dts": "dts dtshd",
    "h264": "h264 264 avc",
    "hevc": "hevc h265 265",
    "dv": "dv dif",
    "jpeg_pipe": "jpg jpeg jpe jfif",
    "tiff_pipe": "tif tiff",
    "bmp_pipe": "bmp dib",
    "png_pipe": "png",
    "webp_pipe": "webp",
    "gif": "gif",
    "ac3": "ac3",
    "nut": "nut",
    "mxf": "mxf",
    "voc": "voc",
    "tta": "tta",
    "wv": "wv",
    "ape": "ape mac",
}
"""By FFmpeg's name of a format, the endings that its files have: FFmpeg lists few of them, and none for some formats."""
_KNOWN_ENDINGS = frozenset(ending for endings in _ENDINGS.values() for ending in endings.split())
"""A name with another ending, or none, says nothing of the content."""


def check_tracks(
    container: InputContainer,
    place: str | Path,
    span: Span,
    audio: AudioTrackReader | None,
    video: VideoFrameSampler | None,
    ended: bool,
) -> None:
    """Refuse tracks that are broken, empty, or lack data.

    Args:
        container: The file, after its packets.
        place: The file, for the error.
        span: The wanted span.
        audio: The audio track, if it was wanted.
        video: The video track, if there is one.
        ended: Whether the file ended before both had what they wanted.

    Raises:
        MediaError: `damaged`, `empty_audio` or `truncated`.

    """
    for track in (audio, video):
        if track is not None and track.bad_packets > _MOST_BAD * max(track.num_packets, 1):
            raise MediaError("damaged", place, f"{track.bad_packets} of {track.num_packets} {track.kind} packets are broken")
    if audio is not None:
        _check_audio(audio, place)
    if ended and claim_of(container, place) is Claim.HEADER and not is_whole(place):
        _check_ends(container, place, span, [track for track in (audio, video) if track is not None])


def check_riff(place: str | Path) -> None:
    """Refuse a wav or avi file that is shorter than its data: FFmpeg takes it without a word.

    Raises:
        MediaError: `truncated`.

    """
    if first_bytes(place)[:4].upper() in (b"RIFF", b"RIFX", b"RF64", b"BW64") and is_whole(place) is False:
        raise MediaError("truncated", place, "lacks data that its header announces; give the whole file")


def _check_audio(audio: AudioTrackReader, place: str | Path) -> None:
    if not audio.seconds:
        raise MediaError("empty_audio", place, "its audio track is empty; give a file with at least one sample")
    if bad := [rate for rate in audio.sample_rates if not _LOWEST_HZ <= rate <= _HIGHEST_HZ]:
        raise MediaError("damaged", place, f"claims {bad[0]} samples per second; convert it")


def check_samples(audio: AudioTrackReader, place: str | Path) -> None:
    """Refuse audio with samples that are not finite, or of a size that no recorder writes.

    Raises:
        MediaError: `damaged`.

    """
    if audio.bad_samples:
        detail = f"{audio.bad_samples:,} samples are not finite, or beyond {MAX_SAMPLE:.0e}; export it again"
        raise MediaError("damaged", place, detail)


def _check_ends(
    container: InputContainer, place: str | Path, span: Span, tracks: list[AudioTrackReader | VideoFrameSampler]
) -> None:
    reached = {track.index: track.reached_s for track in tracks}
    promised = {index: own_end(container.streams[index], span.origin_s) for index in reached}
    ends = {index: min(end, span.end_s) for index, end in promised.items() if end is not None}
    if not ends and len(reached) == len(tracks_of(container)):
        claimed_s = min(span.end_s, container_end(container, span.origin_s) or 0.0)
        ends = {max(reached, key=lambda index: reached[index]): claimed_s}
    for index, end_s in ends.items():
        if reached[index] < end_s - SLACK_S:
            raise MediaError("truncated", place, f"ends at {reached[index]:.2f} of {end_s:.2f} s; give the complete file")


def flags_of(
    container: InputContainer,
    place: str | Path,
    span: Span,
    audio: AudioTrackReader | None,
    video: VideoFrameSampler | None,
    is_silent: bool,
) -> tuple[str, ...]:
    """The flags of a decoded file, of `mm_ray.data.media.errors.FLAGS`."""
    found = {
        "silent": audio is not None and is_silent,
        "multichannel": audio is not None and audio.num_channels > 2,
        "variable_frame_rate": video is not None and varies(video.packet_times),
        "rotated": video is not None and video.rotated,
        "wrong_extension": not _named_rightly(container, place),
        "broken_packets": any(track is not None and track.bad_packets > 0 for track in (audio, video)),
        "audio_gap": audio is not None and audio.has_gap,
        "rate_changes": audio is not None and len(audio.sample_rates) > 1,
        "span_cut": span.cut,
    }
    return tuple(name for name, present in found.items() if present)


def _named_rightly(container: InputContainer, place: str | Path) -> bool:
    """Whether the name's ending is one of the format, or of no format at all."""
    ending = posixpath.splitext(str(place))[1][1:].lower()
    names = container.format.name.split(",")
    known = {*names, *container.format.extensions, *(more for name in names for more in _ENDINGS.get(name, "").split())}
    return bool({ending, f"{ending}_pipe"} & known) or ending not in _KNOWN_ENDINGS
