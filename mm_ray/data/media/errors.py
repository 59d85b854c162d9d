"""Why a recording is rejected, and what may be odd about one that is kept."""

from pathlib import Path

from mm_ray.errors import UserError

REASONS = {
    "missing": "no such file",
    "not_downloaded": "named by the data set, not on disk, or a git-lfs pointer; does not count as rejected",
    "unreadable_name": "the file's name is not UTF-8",
    "outside_root": "a link or path that leaves ROOT",
    "no_class": "lies in no class folder",
    "unreadable": "the file system refuses to read it",
    "not_media": "FFmpeg knows no such format",
    "no_decoder": "FFmpeg has no decoder for a track",
    "truncated": "data that its container announces are missing",
    "damaged": "too many broken packets, or samples that are no numbers",
    "no_audio_track": "has no audio track",
    "empty_audio": "the audio track has no samples",
    "too_short": "gives fewer than two audio frames, of which nothing is left after their mean is taken off",
    "no_picture": "the named video or image has no picture",
    "span_outside": "the span begins before the recording or after its end",
    "duplicate": "the same bytes as another file",
    "bad_array": "precomputed features of a wrong shape or type, or not finite",
    "bad_name": "its name is none that the data set has",
    "bad_row": "a row of the manifest that makes no sense",
    "crashed": "the decoder's process died on it, twice",
}
"""By reason, what it means."""

UNCOUNTED = ("not_downloaded",)
"""Reasons that do not count towards `--max-rejected`."""

FLAGS = {
    "silent": "every audio sample is zero",
    "multichannel": "more than two channels, mixed down by their mean",
    "variable_frame_rate": "frames come at unequal times",
    "rotated": "turned upright as its metadata says",
    "wrong_extension": "the content is not what the name says",
    "broken_packets": "a few broken packets were left out",
    "audio_gap": "silence where the sound begins late or pauses",
    "rate_changes": "the sample rate changes in mid-file; brought to one rate",
    "span_cut": "the span reached beyond the recording's end",
    "no_video": "sound only",
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
