"""What was added to a run after its first call, in sentences.

Rule: seeds and arms that were added later, environments that differ and merged runs are named, since a reader may want
to compare only what was computed together.
"""

from collections.abc import Sequence

from tailkeep.report.lab.sentences import join
from tailkeep.runs import Addition


def growth_lines(history: Sequence[Addition]) -> tuple[str, ...]:
    """A line for each later call that added something to the run; none for a run of one call."""
    lines = []
    for number, addition in enumerate(history[1:], start=1):
        before = history[:number]
        seeds = [seed for seed in addition.seeds if all(seed not in one.seeds for one in before)]
        arms = [arm for arm in addition.arms if all(arm not in one.arms for one in before)]
        longer = [
            f"generations up to {generations - 1} of {arm}"
            for arm, generations in addition.arms.items()
            if arm not in arms and generations > max(one.arms.get(arm, 0) for one in before)
        ]
        parts = [f"seed {seed}" for seed in seeds] + [f"arm {arm}" for arm in arms] + longer
        added = [f"{join(parts)} added"] if parts else []
        recomputed = [f"{join(list(addition.recomputed))} computed again"] if addition.recomputed else []
        accepted = [f"another environment accepted: {'; '.join(addition.accepted)}"] if addition.accepted else []
        merged = [f"merged from {join(list(addition.merged))}"] if addition.merged else []
        what = "; ".join([*merged, *added, *recomputed, *accepted]) or f"chains of {join(list(addition.arms))} added"
        lines.append(f"{addition.at[:10]}: {what}.")
    return tuple(lines)
