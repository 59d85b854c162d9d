"""ActivityNet v1.3 (Caba Heilbron et al. 2015): each annotated segment of a video is a clip.

ROOT holds the videos, `v_ID.mp4` or `ID.webm`, in any subfolders, and `activity_net.v1-3.min.json`, the public annotations (or
`--annotations FILE`). Its validation set is our test set; a fifth of each class's training videos is for dev. The group is the
video. Videos that were not downloaded are counted, and do not count as rejected. A thumbnail, subtitles or a wav beside a
video, of its name, do not take its place.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import compress
from typing import Any

from mm_ray.config import DataConfig
from mm_ray.data.dataset_helpers import annotation, by_stem, ending, files_below, hold_out, wanted_classes
from mm_ray.data.manifest import Clip, Manifest, Rejected
from mm_ray.errors import UserError
from mm_ray.storage import read_bytes

READS = ("root", "annotations", "classes")

VIDEOS = ".mp4 .m4v .mkv .webm .mov .avi .flv .ts .m2ts .mts .mpg .mpeg .vob .wmv .ogv .3gp .divx"
AUDIO_FILES = ".wav .flac .mp3 .m4a .aac .ogg .oga .opus .wma .aif .aiff .ac3 .mka .weba"
NO_RECORDINGS = ".webp .jpg .jpeg .png .gif .bmp .avif .heic .svg .part .ytdl .ass .sub .lrc .description"
Segment = tuple[str, int, dict[str, Any]]
"""A video's id, the position of the annotation in it, and the annotation."""


def read(data: DataConfig) -> Manifest:
    """List the segments of the videos that are there.

    Raises:
        UserError: The annotations or the videos are not there.

    """
    place = annotation(data, "activity_net.v1-3.min.json", "activity_net.v1-3.json")
    try:
        database = json.loads(read_bytes(place))["database"]
        annotated = {video: entry for video, entry in database.items() if entry["subset"] in ("training", "validation")}
        segments = [(video, i, _checked(a)) for video, entry in annotated.items() for i, a in enumerate(entry["annotations"])]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise UserError(f"{place}: is not ActivityNet's JSON; expected activity_net.v1-3.min.json") from error
    class_names = wanted_classes(data, (a["label"] for _, _, a in segments))
    used = [segment for segment in segments if segment[2]["label"] in class_names]
    splits = _splits(annotated, segments)
    files = _videos(files_below(data.root))
    here = {video: files.get(f"v_{video}") or files.get(video, "") for video, _, _ in used}
    usable = [bool(here[video]) and -math.inf < a["segment"][0] < a["segment"][1] < math.inf for video, _, a in used]
    good, bad = list(compress(used, usable)), list(compress(used, (not ok for ok in usable)))
    clips = [_clip(s, here[s[0]], class_names.index(s[2]["label"]), splits[s[0]]) for s in good]
    rejected = [_rejected(s, here[s[0]]) for s in bad]
    note = f"{sum(map(bool, here.values())):,} of {len(here):,} videos were downloaded: {len(good):,} of {len(used):,} segments"
    return Manifest("activitynet", class_names, tuple(clips), tuple(rejected), (note,))


def _videos(names: Iterable[str]) -> dict[str, str]:
    """By stem the file to take of those that a downloader leaves under one stem: video before other files before audio.

    Pictures (thumbnails) and subtitles are none of them. Among equals the first by name is taken.
    """
    return by_stem(sorted((name for name in names if ending(name) not in NO_RECORDINGS.split()), key=_rank))


def _rank(name: str) -> int:
    return 0 if ending(name) in VIDEOS.split() else 2 if ending(name) in AUDIO_FILES.split() else 1


def _checked(annotated_segment: dict[str, Any]) -> dict[str, Any]:
    """An annotation; one without a label or two seconds is none."""
    start_s, end_s = map(float, annotated_segment["segment"])
    return {"label": str(annotated_segment["label"]), "segment": (start_s, end_s)}


def _splits(annotated: dict[str, dict[str, Any]], segments: list[Segment]) -> dict[str, str]:
    """By video; made of all annotated videos, so that later downloads and a choice of classes move nothing."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for video, _, annotated_segment in segments:
        if annotated[video]["subset"] == "training":
            groups[annotated_segment["label"]].append(video)
    return dict.fromkeys(annotated, "test") | hold_out(groups, dev=0.2, test=0.0)


def _clip(segment: Segment, source: str, label: int, split: str) -> Clip:
    video, position, content = segment
    start_s, end_s = map(float, content["segment"])
    return Clip(f"{video}-{position}", label, video, (split,), source, "", start_s, end_s)


def _rejected(segment: Segment, source: str) -> Rejected:
    video, position, content = segment
    bad = "the segment ends before it starts, or has no end"
    reason, detail = ("bad_row", bad) if source else ("not_downloaded", "not found below ROOT")
    return Rejected(f"{video}-{position}", source or f"v_{video}.mp4", content["label"], video, reason, detail)
