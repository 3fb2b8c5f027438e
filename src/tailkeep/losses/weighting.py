"""What a collapse-resistant loss adds to cross-entropy: how much each token's loss counts.

Rule: a weighting sees a token's own numbers only, so it may be called with any part of a micro-batch; what
must look at a whole micro-batch does so in `observe`, for the next one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from tailkeep.config import describe
from tailkeep.errors import ConfigError
from tailkeep.losses.checks import is_whole_number

Entropy: TypeAlias = Literal["full"] | int | None
"""Which entropy of a prediction a weighting needs: of all tokens, of the k likeliest made to sum to 1, or none."""


def check_entropy(name: str, entropy: Any) -> None:
    """Refuse what is no `Entropy`.

    Raises:
        ConfigError: it is not.
    """
    if entropy is not None and entropy != "full" and not (is_whole_number(entropy) and entropy >= 1):
        raise ConfigError(f'{name} {entropy!r} is neither "full" nor a number of tokens, at least 1.')


Weigh: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""(N,) NLL in nats and (N,) entropy in nats, or None -> (N,) factors, boolean or float; 0 drops a token."""


class State(Protocol):
    """What a weighting has learnt from the micro-batches so far. Each process has its own."""

    def state_dict(self) -> dict[str, Any]:
        """Numbers and tensors that a checkpoint can hold."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where `state_dict` was called."""
        ...


def _plain(nll: Tensor, _entropy: Tensor | None) -> Tensor:
    return torch.ones_like(nll)


@dataclass(frozen=True)
class Weighting:
    """A token loss is NLL times `weigh(nll, entropy)`; a gradient may pass through the factor, never through `entropy`.

    `entropy` requests the entropy of the prediction; without it `weigh` gets None. `observe` is called once a
    micro-batch with the NLL of all its valid targets, after `weigh`: there a weighting with a `state` moves on. Copies
    and pickles hold if the functions are partials or bound methods, not closures.
    """

    needs_sequences: ClassVar[bool] = False
    """Whether it also judges whole sequences, which only `attach` sees."""

    name: str
    weigh: Weigh = _plain
    entropy: Entropy = None
    observe: Callable[[Tensor], None] | None = None
    state: State | None = None

    def __post_init__(self) -> None:
        check_entropy(f"the entropy of the loss {self.name!r},", self.entropy)
        if not callable(self.weigh):
            raise ConfigError(f"the loss {self.name!r} weighs with {self.weigh!r}. Pass a function of NLL and entropy.")

    def of_tokens(self) -> "Weighting":
        """The part that judges tokens by themselves."""
        return self

    def factors(self, nll: Tensor, entropy: Tensor | None) -> Tensor:
        """What `weigh` gives, if it is a factor for each token.

        Raises:
            ConfigError: it is not.
        """
        weights = self.weigh(nll, entropy)
        if not isinstance(weights, Tensor) or weights.shape != nll.shape:
            got = tuple(weights.shape) if isinstance(weights, Tensor) else describe(weights)
            raise ConfigError(
                f"the loss {self.name!r} weighs {tuple(nll.shape)} tokens with {got}. Return a tensor with a factor "
                "for each; it gets an entropy if the Weighting requests one, as entropy='full'."
            )
        return weights

    def check_not_recomputed(self) -> None:
        """Refuse to weigh a micro-batch a second time, in the backward pass of a checkpoint around the loss.

        Raises:
            ConfigError: it is one, and this weighting has a state that has moved on since.
        """
        # -1 outside a backward pass; torch.utils.checkpoint itself uses this.
        if self.state is not None and torch._C._current_graph_task_id() != -1:
            raise ConfigError(
                f"the loss {self.name!r} has a state, and a checkpoint computes it a second time. "
                "Checkpoint the layers below the output layer only."
            )

    def move_on(self, nll: Tensor) -> None:
        """Let a state see the (N,) NLL of a micro-batch; without gradients, as in validation, it rests."""
        if self.observe is not None and torch.is_grad_enabled():
            self.observe(nll.detach())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; empty for a weighting without a state."""
        return {} if self.state is None else self.state.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where `state_dict` was called.

        Raises:
            ConfigError: the state of another weighting.
        """
        if self.state is not None:
            self.state.load_state_dict(state)
        else:
            check_state(state, self.name)


CROSS_ENTROPY = Weighting("cross_entropy")


def cross_entropy() -> Weighting:
    """`CROSS_ENTROPY`, as the function of a named loss."""
    return CROSS_ENTROPY


def check_weighting(weighting: object) -> None:
    """Refuse what is no weighting, such as a name.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(weighting, Weighting):
        raise ConfigError(f"weighting {weighting!r} is no Weighting. Make one, or call named_weighting for a name.")
    if weighting.needs_sequences:
        raise ConfigError(
            f"the loss {weighting.name!r} judges whole sequences, and here are tokens alone. Use attach, or pass the "
            "targets of drop_fitted_sequences to any loss."
        )


class MicroBatchCount:
    """The state of the loss `name` that follows a schedule of `settings`: how many micro-batches it has `seen`."""

    def __init__(self, name: str, *settings: float) -> None:
        self._name, self._settings = name, [float(one) for one in settings]
        self.seen = 0

    def observe(self, _nll: Tensor) -> None:
        """Count a micro-batch."""
        self.seen += 1

    def state_dict(self) -> dict[str, Any]:
        """The count, and the schedule that it belongs to."""
        return {"seen": self.seen, "settings": self._settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the count.

        Raises:
            ConfigError: the state is that of another loss, or of another schedule.
        """
        check_state(state, self._name, "seen", settings=self._settings)
        self.seen = state["seen"]


def check_state(state: Mapping[str, Any], name: str, *keys: str, settings: Sequence[float] = ()) -> None:
    """Refuse the state of another weighting.

    Raises:
        ConfigError: `state` has other keys than `keys`, and `settings` where there are any; or other settings.
    """
    keys = (*keys, "settings") if settings else keys
    if set(state) != set(keys):
        raise ConfigError(
            f"the state of the loss {name!r} has the keys {', '.join(map(repr, keys)) or 'none'}, "
            f"this one has {', '.join(map(repr, state)) or 'none'}. Load what the same loss saved."
        )
    if settings and list(state["settings"]) != list(settings):
        raise ConfigError(
            f"the loss {name!r} was saved with the options {state['settings']}, and this one has {list(settings)}. "
            "Resume with the options of the run that is resumed, or start a new run from the checkpoint's weights."
        )
