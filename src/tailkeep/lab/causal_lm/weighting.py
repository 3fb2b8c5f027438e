"""From a loss's settings to its weighting, a new one for each generation, since some have a state."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.losses import AnyLoss, RandomMatched, RandomTruncation, UserLoss, UserLosses
from tailkeep.losses import Weighting, named_weighting


def build_weighting(loss: AnyLoss, user: UserLosses, *, seed: int = 0) -> Weighting:
    """The weighting that `loss` describes; a threshold that is `auto` is settled before (see `automatic`).

    Raises:
        ConfigError: a loss of the caller's own that was not handed over.
    """
    options = loss.model_dump(exclude={"name"})
    match loss:
        case UserLoss(id=name):
            if name not in user:
                raise ConfigError(
                    f"loss.id: {name!r} was not handed over. "
                    f"Call tailkeep.lab.run(config, out, losses={{{name!r}: ...}})."
                )
            made = user[name](loss.options)
            return made if isinstance(made, Weighting) else Weighting(name, _OfNLL(made))
        case RandomTruncation() | RandomMatched():
            options["seed"] = seed
    return named_weighting(loss.name, **options)


@dataclass(frozen=True)
class _OfNLL:
    """A weighting that looks at the NLL alone; unlike a closure it can be copied with a model."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, nll: Tensor, entropy: Tensor | None) -> Tensor:
        del entropy
        return self.function(nll)
