"""One audit in its own process: the time of its shards, and the time of its summary."""

import cProfile
import pstats
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edit_cost.measuring import Spent, Stopwatch

from tailkeep.audit import load
from tailkeep.audit.prior_scores import load_prior_scorer
from tailkeep.audit.shard import BundleAuditor
from tailkeep.audit.summary import summarize
from tailkeep.data.corpus import find_shards, finish_bundle, open_destination

_NUM_FUNCTIONS = 12


def measure_audit(path: Path, out: Path, config: Mapping[str, Any], *, profile: bool = False) -> Spent:
    """The CPU seconds of the shards of `path` and of the summary (`concluding`), and the `bytes` of text."""
    watch = Stopwatch()
    audit_config = load(config)
    scorer = load_prior_scorer(audit_config)
    auditor, destination = BundleAuditor(audit_config, scorer), open_destination(out)
    shards = [_with_side(shard) for shard in find_shards([str(path)])]
    profiler = cProfile.Profile()
    watch.begin()
    if profile:
        profiler.enable()
    manifests = [finish_bundle((shard,), auditor, destination, fingerprints=("",))[0] for shard in shards]
    profiler.disable()
    spent = watch.spent(bytes=sum(shard.size for shard in shards))
    start = time.process_time()
    result = summarize(audit_config, manifests, lambda name: out / name, scorer)
    spent["concluding"] = time.process_time() - start
    figures = result.summary["input"]
    # The model also reads the first token of a document, which has no probability.
    spent["tokens"] = figures["prior"]["tokens"] + figures["documents"] if "prior" in figures else 0
    return {**spent, "profile": _shares(profiler) if profile else [], "peak_mib": Stopwatch().spent()["peak_mib"]}


def _with_side(shard: Any) -> Any:
    from dataclasses import replace

    return replace(shard, name=f"input/{shard.name}")


def _shares(profiler: cProfile.Profile) -> list[tuple[str, float]]:
    stats: Any = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in stats.values())
    rows = sorted(((entry[2] / total, key) for key, entry in stats.items()), reverse=True)[:_NUM_FUNCTIONS]
    return [(f"{Path(file).name}:{name}", share) for share, (file, _, name) in rows]
