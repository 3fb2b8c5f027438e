"""What an edit did to the tokens of a shard, as counts that add up over shards.

    tokens/<band> flagged/<band> changed/<band> deleted/<band> after/<band> refused/<reason>

Rule: a band is named by its lowest probability, and a token belongs to that of its probability on the original prefix.
"""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.corpus import RunOutcome
from tailkeep.edit.editor import EditedDocument
from tailkeep.runs import sealed_text

BANDS = ("0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.99", "0.999")
"""The least probability of each band; the last three are parts of the last tenth, where ToEdit works."""

# As the rules take theirs: in log space and in float32, so that a threshold of 0.99 flags whole bands.
_LOGS = np.array([math.log(float(name)) for name in BANDS[1:]], np.float32)
_KINDS = ("tokens", "flagged", "changed", "deleted", "after")


class TokenCounts:
    """Adds up what was done to documents."""

    def __init__(self) -> None:
        self._bands = {kind: np.zeros(len(BANDS), np.int64) for kind in _KINDS}
        self._refused: Counter[str] = Counter()
        self._read = self._unscored = self._repeats_left = 0

    def add(self, edited: EditedDocument) -> None:
        """Count one document: of its editable tokens, those that the prior scored."""
        editable = edited.prepared.editable
        bands = bands_of(edited.log_probs)
        scored = editable & ~np.isnan(edited.log_probs)
        self._read += len(editable)
        self._unscored += int(editable.sum() - scored.sum())
        tokens = _histogram(bands[scored])
        changed = [change for change in edited.changes if change.new_log_prob is not None]
        deleted = [change.position for change in edited.changes if change.new_log_prob is None]
        old = _histogram(bands[[change.position for change in changed]])
        gone = _histogram(bands[deleted])
        new = _histogram(bands_of(np.array([change.new_log_prob for change in changed], np.float32)))
        self._bands["tokens"] += tokens
        self._bands["flagged"] += _histogram(bands[edited.flagged])
        self._bands["changed"] += old
        self._bands["deleted"] += gone
        self._bands["after"] += tokens - old - gone + new
        self._refused.update(edited.refused)
        ids = edited.prepared.record.tokens
        self._repeats_left += bool(edited.changes and ids and ids.repeats)

    def counts(self) -> dict[str, int]:
        """All of them by name, and `tokens_read`, which takes in prompts and tokens around the text.

        `repeats_left`, if there are any, are edited documents of ids with another list that repeats the original ones.
        """
        bands = {
            f"{kind}/{band}": int(count)
            for kind, row in self._bands.items()
            for band, count in zip(BANDS, row, strict=True)
        }
        totals = {kind: int(row.sum()) for kind, row in self._bands.items() if kind != "after"}
        refused = {f"refused/{reason}": count for reason, count in sorted(self._refused.items())}
        repeats = {"repeats_left": self._repeats_left} if self._repeats_left else {}
        return {**totals, **repeats, "tokens_read": self._read, "tokens_unscored": self._unscored, **bands, **refused}


def bands_of(log_probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """The number of each token's band; of a token without a score, some number."""
    return np.searchsorted(_LOGS, log_probs, side="right")


def _histogram(bands: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(bands, minlength=len(BANDS))


# What a run has done so far, and the numbers that are called with it.
#
# Rule: flagged and changed shares are always reported separately: a flagged token is resampled, and mostly stays.


_FLAGS_MORE = {
    "toedit": "lower rule.threshold, or give a prior that fits the corpus better",
    "low": "raise rule.threshold",
    "band": "lower rule.low or raise rule.high",
    "random": "raise rule.share",
}
WARNED_SHARE = 0.4
"""Above it the bound's assumptions wear out: its simulation doubles the error at a half."""


@dataclass(frozen=True)
class EditOutcome(RunOutcome):
    """The totals over the finished shards of an edit; `counts` are those of `TokenCounts` and of documents.

    Attributes:
        changed_before: the share of tokens that earlier edits of this corpus changed, None if it is not known.
        prior: the number format and the device in which the prior ran, in words.
        rule: the kind of the rule.
        risks_facts: whether the sampler prefers unlikely tokens, while names and numbers are not protected.
    """

    changed_before: float | None = 0.0
    risks_facts: bool = False
    prior: str = ""
    rule: str = "toedit"

    @property
    def flagged_share(self) -> float:
        """The share of tokens that were flagged."""
        return self._share("flagged")

    @property
    def changed_share(self) -> float:
        """The share of tokens that became others or were deleted."""
        return self._share("changed") + self._share("deleted")

    @property
    def cumulative_share(self) -> float | None:
        """The changed share over this edit and those before it, as if none hit a token twice; None if unknown."""
        return None if self.changed_before is None else min(1.0, self.changed_before + self.changed_share)

    def summary(self) -> str:
        """The content of `summary.json`."""
        tree = {
            "fingerprint": self.fingerprint,
            "shards": self.shards,
            "flagged_share": self.flagged_share,
            "changed_share": self.changed_share,
            "cumulative_changed_share": self.cumulative_share,
            "counts": dict(self.counts),
        }
        return sealed_text(tree)

    def lines(self) -> list[str]:
        """The totals in words."""
        count = {name: int(value) for name, value in self.counts.items()}
        if not self.finished:
            return super().lines()
        lines = [
            *super().lines(),
            f"documents: {count['documents']:,} read, {count['written']:,} written, {count['edited']:,} of them "
            f"edited, {count['rejected']:,} rejected"
            + (f", {count['left_out']:,} left out for their weight of 0" if "left_out" in count else ""),
            f"tokens: {count['tokens']:,} judged, {self.flagged_share:.2%} flagged, "
            f"{self.changed_share:.2%} changed ({count['deleted']:,} of them deleted)",
        ]
        if self.prior:
            lines.append(f"prior: {self.prior}")
        reasons = {name.partition("/")[2]: value for name, value in count.items() if name.startswith("refused/")}
        if reasons:
            listed = ", ".join(f"{reason} {value:,}" for reason, value in sorted(reasons.items()))
            lines.append(f"refused edits: {listed}")
        if count["tokens"] and not count["changed"] + count["deleted"]:
            lines.append(f"hint: {self._why_nothing_changed()}")
        return lines

    def warnings(self) -> list[str]:
        """What should be looked at."""
        warnings = []
        share = self.cumulative_share
        if share is None:
            warnings.append("earlier edits of this corpus left no changed share, so the sum of them is not known")
        elif share > WARNED_SHARE:
            warnings.append(
                f"{share:.0%} of the tokens of the pristine corpus are changed by now; above {WARNED_SHARE:.0%} the "
                "bound on collapse does not hold. Edit less, and always the pristine corpus"
            )
        if self.risks_facts and self.counts.get("changed"):
            warnings.append(
                "tokens were drawn at a temperature above 1, or their original was excluded, which falsifies names and "
                "numbers: 21 of 50 such changes under real priors. Set protection.entities=true"
            )
        if self.counts.get("written") and not self.counts.get("tokens"):
            warnings.append(
                "no document has a token that can be edited: check layout.text_fields, or the roles in "
                "layout.chat.editable. The first token of a document is never edited"
            )
        if repeats := int(self.counts.get("repeats_left", 0)):
            warnings.append(
                f"{repeats:,} edited documents have another list that repeats their token ids, such as labels, and it "
                "still holds the original ones. Make it anew from the edited ids"
            )
        return [*warnings, *super().warnings()]

    def _why_nothing_changed(self) -> str:
        if any(count for name, count in self.counts.items() if name.startswith("refused/")):
            return "every edit was refused, for the reasons above, or drew the token that was there"
        if self.counts["flagged"] == 0:
            return f"no token was flagged; {_FLAGS_MORE[self.rule]}"
        return (
            "each flagged token was drawn as it was, as most are under a good prior; a sampler.temperature of 1.5 or "
            "sampler.exclude_original=true change more, and falsify names and numbers without protection.entities"
        )

    def _share(self, kind: str) -> float:
        return self.counts.get(kind, 0) / max(self.counts.get("tokens", 0), 1)
