"""A page with the spectrograms and frames of a few clips of a store, in one HTML file.

Shape suffixes: T audio frames, F audio bins, S video frames, D video features, H height, W width.
"""

import base64
import html
from fractions import Fraction
from typing import Any

import av
import numpy as np

from mm_ray.data.feature_store_reader import names_broken, read_columns
from mm_ray.data.manifest import label_name
from mm_ray.prepare.inspect import Contents
from mm_ray.storage import join, write_whole

PAGE = "inspect.html"
NUM_SHOWN = 12
_DEVIATIONS = 3.0
"""Features so many standard deviations below and above their mean are black and white."""
_STYLE = """body{font:14px system-ui,sans-serif;margin:2em;background:#fff;color:#222}
img{image-rendering:pixelated;display:block;margin:4px 0}
.sound{height:160px;max-width:100%}.sight{height:96px;max-width:100%}
section{border-top:1px solid #ccc;padding:8px 0}h2{font-size:15px;margin:4px 0}p{margin:2px 0;color:#555}"""


def write_page(contents: Contents) -> str:
    """Write `inspect.html` into the store; returns its place."""
    place = join(contents.place, PAGE)
    content = page(contents).encode()

    def write(path: str, filesystem: Any) -> None:
        with filesystem.open_output_stream(path) as file:
            file.write(content)

    write_whole(place, write)
    return place


def page(contents: Contents) -> str:
    """The page's text: clips evenly spread over the store."""
    count = min(NUM_SHOWN, len(contents.clips))
    chosen = [contents.clips.slice(i * len(contents.clips) // count, 1).to_pylist()[0] for i in range(count)]
    title = html.escape(f"{contents.settings.name}: {count} of {len(contents.clips):,} clips")
    sections = "\n".join(_section(contents, clip) for clip in chosen)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f"<!DOCTYPE html><html><head>{head}</head><body><h1>{title}</h1>\n{sections}\n</body></html>\n"


def _section(contents: Contents, clip: dict[str, Any]) -> str:
    shard = read_columns(clip["shard"], ("audio", "video")).slice(clip["position"], 1)
    with names_broken(clip["shard"]):
        audio_TF = shard["audio"][0].values.to_numpy().reshape(clip["audio_frames"], -1)
        video_SD = shard["video"][0].values.to_numpy().reshape(clip["video_frames"], -1) if clip["video_frames"] else None
    pictures = [_image(grey(audio_TF.T[::-1]), "sound", "log-mel, low below, one column an audio frame")]
    if video_SD is not None:
        pictures.append(_image(frames_side_by_side(video_SD, contents), "sight", "video features"))
    label = label_name(clip["label"], contents.settings.class_names)
    facts = [label, f"group {clip['group']}", "/".join(clip["splits"]), f"{clip['seconds']:.2f} s", *clip["flags"]]
    name = html.escape(clip["clip_id"])
    return f"<section><h2>{name}</h2><p>{html.escape(', '.join(facts))}</p>{''.join(pictures)}</section>"


def frames_side_by_side(video_SD: np.ndarray, contents: Contents) -> np.ndarray:
    """Pixel features as the frames that they are, other features as a strip a frame, (H, W, 3) uint8."""
    features = contents.settings.features
    side, channels = features.video_size, 3 if features.video_color == "rgb" else 1
    if features.video != "pixels":
        return grey(video_SD)
    levels = _levels(video_SD).reshape(-1, side, side, channels)
    spaced = np.pad(levels, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255)
    wide = spaced.transpose(1, 0, 2, 3).reshape(side, -1, channels)
    return np.ascontiguousarray(np.broadcast_to(wide, (*wide.shape[:2], 3)))


def grey(values_HW: np.ndarray) -> np.ndarray:
    """Standardised values as a grey picture, (H, W, 3) uint8."""
    return np.repeat(_levels(values_HW)[..., None], 3, axis=-1)


def _levels(values: np.ndarray) -> np.ndarray:
    wide = values.astype(np.float32)
    scaled = (wide - wide.mean()) / (wide.std() + 1e-6)
    return np.rint(255 * np.clip((scaled + _DEVIATIONS) / (2 * _DEVIATIONS), 0, 1)).astype(np.uint8)


def _image(picture_HW3: np.ndarray, kind: str, text: str) -> str:
    data = base64.b64encode(png(picture_HW3)).decode()
    return f'<img class="{kind}" alt="{text}" title="{text}" src="data:image/png;base64,{data}">'


def png(picture_HW3: np.ndarray) -> bytes:
    """A picture, (H, W, 3) uint8, as a PNG file."""
    height, width = picture_HW3.shape[:2]
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "rgb24", Fraction(1, 1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HW3), "rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
