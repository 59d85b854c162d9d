"""Why a recording is rejected, and the flags of one that is kept."""

from pathlib import Path

from mm_ray.errors import UserError

REASONS = {
    "missing": "no such file",
    "not_downloaded": "named by the data set, not on disk, or a git-lfs pointer; does not count as rejected",
    "unreadable_name": "the file's name is not UTF-8",
    "outside_root": "a link or path that leaves ROOT",
    "no_class": "is not in a class folder",
    "unreadable": "the file system refuses to read it",
    "not_media": "FFmpeg does not know the format",
    "no_decoder": "FFmpeg has no decoder for a track",
    "truncated": "incomplete: data that its header announces is missing",
    "damaged": "too many broken packets, or samples that are not finite",
    "no_audio_track": "has no audio track",
    "empty_audio": "the audio track has no samples",
    "too_short": "shorter than two audio frames, so nothing is left after normalisation",
    "no_picture": "the named video or image has no picture",
    "span_outside": "the segment begins before the recording or after its end",
    "duplicate": "the same bytes as another file",
    "bad_array": "precomputed features of a wrong shape or type, or not finite",
    "bad_name": "its name does not have the form that the data set uses",
    "bad_row": "an invalid row of the manifest",
    "crashed": "decoding it crashed the process twice",
}
"""By reason, what it means."""

UNCOUNTED = ("not_downloaded",)
"""Reasons that do not count towards `--max-rejected`."""

FLAGS = {
    "silent": "every audio sample is zero",
    "multichannel": "more than two channels, mixed down by their mean",
    "variable_frame_rate": "frames come at unequal times",
    "rotated": "rotated as its metadata says",
    "wrong_extension": "the file extension does not match the content",
    "broken_packets": "a few broken packets were skipped",
    "audio_gap": "silence was inserted where the audio starts late or pauses",
    "rate_changes": "the sample rate changes within the file; resampled to one rate",
    "span_cut": "the segment ends after the recording",
    "no_video": "audio only",
    "cut_off": "longer than data.features.max_frames audio frames; only its beginning is used",
}
"""By flag, what it means; a clip with flags is kept."""


class MediaError(UserError):
    """A recording that cannot be used.

    Args:
        reason: One of `REASONS`.
        place: The file.
        detail: What is wrong and what would help, one line.

    """

    def __init__(self, reason: str, place: str | Path, detail: str) -> None:
        super().__init__(f"{place}: {detail}")
        self.reason, self.place, self.detail = reason, str(place), detail

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return MediaError, (self.reason, self.place, self.detail)
