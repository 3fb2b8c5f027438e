"""Losses for causal language models of transformers, attached without touching their code.

`attach(model)` trains with truncated cross-entropy from then on, `detach(model)` undoes it. Rule: exact or refused, and
never silently without effect.
"""

from tailkeep.losses.attached.attaching import attach, detach, is_attached, plain, read_stats, weighting_of

__all__ = ["attach", "detach", "is_attached", "plain", "read_stats", "weighting_of"]
