"""(b) `tailkeep edit` from file to file, and where its time goes.

As for the other contenders, the clock starts when the prior is loaded: the cost per run is listed separately.
"""

import cProfile
import pstats
from pathlib import Path
from typing import Any

from edit_cost.measuring import Spent, Stopwatch
from tailkeep import edit

# The stages of a run: each is the cumulative time of one function.
_STAGES = (
    ("forward: body", "split_model.py", "hidden_states"),
    ("forward: head", "split_model.py", "log_probs"),
    ("flagged: sample", "sampler.py", "sample_tokens"),
    ("text to tokens", "editor.py", "prepare"),
    ("reading", "shard_io.py", "records"),
    ("writing", "shard_io.py", "write"),
    ("random numbers", "policy.py", "position_uniforms"),
    ("flagging", "sampler.py", "flag"),
    ("splicing", "editor.py", "_spliced"),
    ("counting", "stats.py", "add"),
    ("publishing and manifest", "destination.py", "publish"),
)


def run_edit(
    prior: Path, path: Path, document: str, *, threads: int, rule: dict[str, Any], out: Path, profile: bool = False
) -> Spent:
    """The cost of editing the documents of `path` into the folder `out`, with its stages if `profile`."""
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
    """Seconds by stage; publishing excludes the work whose result is published."""
    stats: Any = pstats.Stats(profiler)
    total = stats.total_tt
    cumulative = {(Path(file).name, function): row[3] for (file, _, function), row in stats.stats.items()}
    stages = {name: cumulative.get((file, function), 0.0) for name, file, function in _STAGES}
    work = cumulative[("shard.py", "__call__")]
    stages["publishing and manifest"] = max(0.0, stages["publishing and manifest"] - work)
    # Reading is a generator inside the generator of groups, so its cumulative time is its own.
    return {"all": total, **stages, "the rest": total - sum(stages.values())}
