"""One audit in a process of its own, timed from its first shard to its last and to its conclusion."""

import cProfile
import pstats
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edit_cost.measuring import Spent, Stopwatch

from tailkeep.audit import load
from tailkeep.audit.prior_scores import load_prior_scorer
from tailkeep.audit.shard import ShardAuditor
from tailkeep.audit.summary import summarize
from tailkeep.data.corpus import find_shards, finish_shard, open_destination

_SHOWN = 12


def audited(path: Path, out: Path, config: Mapping[str, Any], *, profile: bool = False) -> Spent:
    """What the shards of `path` take, and `concluding` afterwards, in seconds of CPU; `bytes` of text."""
    watch = Stopwatch()
    chosen = load(config)
    scorer = load_prior_scorer(chosen)
    work, destination = ShardAuditor(chosen, scorer), open_destination(out)
    shards = [_named(shard) for shard in find_shards([str(path)])]
    profiler = cProfile.Profile()
    watch.begin()
    if profile:
        profiler.enable()
    manifests = [finish_shard(shard, work, destination, fingerprint="") for shard in shards]
    profiler.disable()
    spent = watch.spent(bytes=sum(shard.size for shard in shards))
    start = time.process_time()
    found = summarize(chosen, manifests, lambda name: out / name, scorer)
    spent["concluding"] = time.process_time() - start
    asked = found.summary["input"].get("prior")
    # The first token of a document has no probability, and is read all the same.
    spent["tokens"] = asked["tokens"] + found.summary["input"]["documents"] if asked else 0
    return {**spent, "profile": _shares(profiler) if profile else [], "peak_mib": Stopwatch().spent()["peak_mib"]}


def _named(shard: Any) -> Any:
    from dataclasses import replace

    return replace(shard, name=f"input/{shard.name}")


def _shares(profiler: cProfile.Profile) -> list[tuple[str, float]]:
    stats: Any = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in stats.values())
    rows = sorted(((entry[2] / total, key) for key, entry in stats.items()), reverse=True)[:_SHOWN]
    return [(f"{Path(file).name}:{name}", share) for share, (file, _, name) in rows]
