"""(b) `tailkeep edit` from file to file, and where its time goes.

The clock starts when the prior is loaded and the output folder open, as it does for the others: what is paid once a run
stands apart.
"""

import cProfile
import pstats
from pathlib import Path
from typing import Any

from edit_cost.measuring import Spent, Stopwatch
from tailkeep import edit

# Parts of the run by the functions that they are, in which all below them is counted.
_STAGES = (
    ("forward: body", "halves.py", "hidden"),
    ("forward: head", "halves.py", "distributions"),
    ("flagged: draw", "drawing.py", "draw"),
    ("text to tokens", "preparing.py", "prepare"),
    ("reading", "passage.py", "records"),
    ("generation", "passage.py", "write"),
    ("random numbers", "randomness.py", "uniforms"),
    ("judging", "deciding.py", "flag"),
    ("splicing", "editing.py", "_spliced"),
    ("counting", "counting.py", "add"),
    ("publishing and manifest", "destination.py", "publish"),
)


def edited(
    prior: Path, path: Path, document: str, *, threads: int, rule: dict[str, Any], out: Path, profile: bool = False
) -> Spent:
    """What the edit of the documents of `path` into the folder `out` takes; its stages if `profile`."""
    watch = Stopwatch()
    profiler = cProfile.Profile() if profile else None
    config = edit.load(
        {"prior": {"path": str(prior)}, "layout": {"document_separator": document}, "num_threads": threads, **rule}
    )
    begun = False

    def observe(progress: object) -> None:
        nonlocal begun
        if not begun:
            begun = True
            watch.begin()
            if profiler is not None:
                profiler.enable()

    outcome = edit.run(config, path, out, observe=observe)
    spent = watch.spent(tokens=int(outcome.counts["tokens_read"]), flagged=int(outcome.counts["flagged"]))
    if profiler is not None:
        profiler.disable()
        spent["stages"] = _stages(profiler)
    return spent


def _stages(profiler: cProfile.Profile) -> dict[str, float]:
    """Seconds by stage; those of publishing without the work whose result is published."""
    stats: Any = pstats.Stats(profiler)
    total = stats.total_tt
    inside = {(Path(file).name, function): row[3] for (file, _, function), row in stats.stats.items()}
    found = {name: inside.get((file, function), 0.0) for name, file, function in _STAGES}
    found["publishing and manifest"] = max(0.0, found["publishing and manifest"] - inside[("shard_work.py", "work")])
    # Reading is a generator inside the generator of groups: what is counted under it is its own.
    return {"all": total, **found, "the rest": total - sum(found.values())}
