"""What the adapters add to a trainer's own log. Rule: the unweighted cross-entropy stands beside any loss."""

import torch.distributed as dist

NAMES = ("kept_fraction", "cross_entropy")


def logged(stats: dict[str, float]) -> dict[str, float]:
    """The means of `NAMES` over the targets of all ranks; every rank calls this, also one that has seen no target.

    Args:
        stats: of `read_stats` on this rank, possibly empty.
    """
    ranks: list[dict[str, float]] = [stats]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        ranks = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(ranks, stats)
    ranks = [rank for rank in ranks if rank]
    targets = sum(rank["targets"] for rank in ranks)
    return {name: sum(rank[name] * rank["targets"] for rank in ranks) / targets for name in NAMES} if ranks else {}
