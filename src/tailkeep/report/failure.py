"""When an arm counts as failed.

Rule: a limit is fixed, or relative to what the same seed began with.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FailureRule:
    """When a seed has failed: its metric crosses a limit, fixed or relative to `reference`.

    The limit is `limit`, or `limit` times the generation-0 value of `reference`. With `chance` only the margin over it
    counts, and must be above 0 by its 95 % interval over as many questions as the metric `items` says. `words` names
    the rule, `past` says that it came true; `name` tells the rules of one metric apart.
    """

    metric: str
    limit: float
    falling: bool
    words: str
    past: str
    reference: str | None = None
    chance: float = 0.0
    items: str = ""
    name: str = ""

    @property
    def key(self) -> str:
        """The metric, or a name of its own for another rule of the same metric."""
        return self.name or self.metric


_RULES = (
    FailureRule("kr_accuracy", 0.75, True, "knowledge retention < 0.75", "knowledge retention fell below 0.75"),
    FailureRule(
        "kr_accuracy",
        0.5,
        True,
        "knowledge retention, half of its margin over guessing lost",
        "knowledge retention lost half of its margin over guessing",
        "kr_accuracy",
        0.5,
        "kr_items",
        "kr_accuracy_margin",
    ),
    FailureRule(
        "kr_fraction_0",
        0.75,
        True,
        "knowledge of the first fraction < 0.75",
        "knowledge of the first fraction fell below 0.75",
    ),
    FailureRule(
        "kr_fraction_0",
        0.5,
        True,
        "knowledge of the first fraction, half of its margin over guessing lost",
        "knowledge of the first fraction lost half of its margin over guessing",
        "kr_fraction_0",
        0.5,
        "kr_fraction_0.items",
        "kr_fraction_0_margin",
    ),
    FailureRule(
        "held_out_nll",
        1.1,
        False,
        "held-out NLL 10 % above generation 0",
        "held-out NLL rose 10 % above generation 0",
        "held_out_nll",
    ),
    FailureRule(
        "std_median", 0.5, True, "median σ < half the real σ", "the median σ fell below half the real σ", "std_real"
    ),
    FailureRule(
        "latent_std",
        0.8,
        True,
        "latent spread 20 % below generation 0",
        "the latent spread fell 20 % below generation 0",
        "latent_std",
    ),
    FailureRule(
        "modes_alive",
        0.75,
        True,
        "fewer than 75 % of the modes",
        "fewer than 75 % of the modes were alive",
        "modes_total",
    ),
    FailureRule(
        "coverage",
        0.8,
        True,
        "coverage 20 % below generation 0",
        "coverage fell 20 % below generation 0",
        "coverage",
    ),
    FailureRule(
        "bound_ratio",
        1.0,
        False,
        "test error above its published bound",
        "the test error rose above its published bound",
    ),
)


def failure_rules(names: set[str]) -> tuple[FailureRule, ...]:
    """The rules that a group with the metrics `names` is judged by.

    The NLL of a density has no natural zero, so "10 % above" means nothing for a mixture. Where real data arrives in
    fractions, the first one is judged, which all generations have rewritten: the whole test asks of later ones too.
    """
    idle = {"held_out_nll"} if "modes_total" in names else set()
    idle |= {"kr_accuracy"} if "kr_fraction_0" in names else set()
    return tuple(rule for rule in _RULES if rule.metric in names - idle)
