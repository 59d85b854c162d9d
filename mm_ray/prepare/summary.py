"""The result of a preparation: counts by flag and by reason, and whether too many clips were rejected."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from mm_ray.data.feature_table import SPLITS
from mm_ray.data.manifest import Manifest, Rejected, warnings_of
from mm_ray.data.media.errors import FLAGS, REASONS, UNCOUNTED
from mm_ray.data.prepare import ClipResult

MORE = "--data.features.max_frames uses more, --data.features.window_hop_s all of it"
"""How more of long recordings is used."""


@dataclass
class Summary:
    """Counts of a preparation."""

    num_stored: int = 0
    """Clips that the store had before."""
    rejected: list[Rejected] = field(default_factory=list)
    num_kept: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    flags: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: ClipResult) -> None:
        """Count one clip."""
        if outcome.rejected is not None:
            self.rejected.append(outcome.rejected)
            return
        self.num_kept += 1
        self.seconds += outcome.seconds
        self.longest_s = max(self.longest_s, outcome.seconds)
        self.flags.update(outcome.flags)

    @property
    def rejected_frac(self) -> float:
        """Rejected clips as a fraction of all clips, those that were stored before included; missing downloads left out."""
        num_rejected = sum(line.reason not in UNCOUNTED for line in self.rejected)
        total = num_rejected + self.num_kept + self.num_stored
        return num_rejected / total if total else 0.0


def print_summary(summary: Summary, manifest: Manifest, audio_s: float, console: Console) -> None:
    """The summary as a table: one line per flag and reason that occurred; `audio_s`: seconds used of a recording."""
    table = Table("clips", "", "", box=None, pad_edge=False)
    table.columns[0].justify = "right"
    table.add_row(f"{summary.num_stored:,}", "already stored", "")
    table.add_row(f"{summary.num_kept:,}", "stored now", f"{summary.seconds / 3600:.2f} h of recordings")
    for flag, count in sorted(summary.flags.items()):
        table.add_row(f"{count:,}", f"  flag {flag}", FLAGS.get(flag, ""))
    table.add_row(f"{len(summary.rejected):,}", "rejected", f"{summary.rejected_frac:.1%} of all clips")
    for reason, count in sorted(Counter(line.reason for line in summary.rejected).items()):
        table.add_row(f"{count:,}", f"  {reason}", REASONS.get(reason, ""))
    console.print(table)
    if num_cut := summary.flags["cut_off"]:
        lost = f"{num_cut:,} recordings are cut off: the longest is {summary.longest_s:.1f} s long, {audio_s:g} s used"
        console.print(f"{lost}; {MORE}", soft_wrap=True)
    print_notes(manifest, console)


def print_notes(manifest: Manifest, console: Console) -> None:
    """Notes and warnings about the listing."""
    for note in (*manifest.notes, *(f"WARNING: {warning}" for warning in (*warnings_of(manifest), *_lacking(manifest)))):
        console.print(note, soft_wrap=True)


def _lacking(manifest: Manifest) -> Iterator[str]:
    """Splits without clips, which training refuses."""
    for fold in range(manifest.num_folds):
        given = {clip.splits[fold] for clip in manifest.clips}
        if missing := [split for split in SPLITS if split not in given]:
            way = "; train with --data.dev_from_train 0.2 to take some from train" if missing == ["dev"] else ""
            yield f"no {' and no '.join(missing)} clips in fold {fold}{way}"
