"""A causal language model in two halves: hidden states from one pass of its body, logits from chunks of them.

Rule: the logits are the model's own. What its code does to the output layer's result (a factor, a cap, a cut) is
recorded call by call when the model is taken apart and replayed on each chunk; a model that this does not reproduce is
refused. No tensor of all tokens times the vocabulary ever exists.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tailkeep.errors import InputError
from tailkeep.scoring.loading import max_positions_of

# The most logits in memory at once, 32 MiB and 256 MiB in float32. A processor is slower above and below; a GPU that
# multiplies fewer rows waits for the weights.
_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 26}
# Unless these are fewer rows: the weights of a large vocabulary are read from memory anew for each chunk.
_ROWS = 256
# Between numbers of one token computed among other tokens, in units of the largest.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_TOLERANCE = 5e-2


class SplitModel:
    """The two halves of `network`, whose mode is the caller's affair.

    Raises:
        InputError: its output layer cannot be found, its logits are not reproduced, or its tokens see later ones.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self.device: torch.device = next(network.parameters()).device
        head = network.get_output_embeddings()
        if not isinstance(head, nn.Module):
            raise InputError(f"{type(network).__name__} names no output layer. Give a causal language model.")
        self._head = head
        self._steps, self.vocab_size = self._take_apart()

    @property
    def num_readable_ids(self) -> int:
        """The number of token ids that the model can read and give a probability."""
        return min(len(self.network.get_input_embeddings().weight), self.vocab_size)

    @property
    def max_positions(self) -> int | None:
        """The longest sequence the model is made for, if its configuration says."""
        return max_positions_of(self.network)

    @property
    def chunk_size(self) -> int:
        """The number of tokens whose logits are computed at once."""
        return max(_ROWS, _LOGITS.get(self.device.type, _LOGITS["cuda"]) // self.vocab_size)

    def hidden(self, ids: Tensor) -> Tensor:
        """What the output layer is given: (B, T, D) for `ids` (B, T), padded on the right with any id.

        Padding is not masked, since a causal model never looks ahead: a mask costs a tenth of the speed and, where
        a sliding window holds nothing but padding, becomes NaN in some attention kernels.
        """
        given: list[Tensor] = []

        def keep(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            given.append(args[0])
            return (args[0][:1, :1], *args[1:])

        handle = self._head.register_forward_pre_hook(keep)
        try:
            self.network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        finally:
            handle.remove()
        (hidden,) = given
        assert hidden.shape[:2] == ids.shape
        return hidden

    def distributions(self, hidden: Tensor) -> Tensor:
        """ln p (N, V) in float32 of the token after each of `hidden` (N, D); N is at most `chunk_size`."""
        logits = self._steps.replay(self._head(hidden[None]).float())[0]
        # log_softmax is exact for probabilities near 1, where a difference of logsumexps is not; in place, since
        # another tensor of this size costs a processor a tenth of the time of the output layer.
        return torch.log_softmax(logits, -1, out=logits)

    def _take_apart(self) -> tuple["_Steps", int]:
        ids = torch.arange(3, device=self.device)[None] % len(self.network.get_input_embeddings().weight)
        recorder, given = _Recorder(), list[Tensor]()

        def begin(_: nn.Module, args: tuple[Any, ...], logits: Tensor) -> None:
            given.append(args[0])
            recorder.begin(logits)

        handle = self._head.register_forward_hook(begin)
        try:
            with eval_mode(self.network), torch.inference_mode(), recorder:
                wanted = self.network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        finally:
            handle.remove()
        name = type(self.network).__name__
        if len(given) != 1 or given[0].shape[:2] != ids.shape:
            shapes = [tuple(hidden.shape) for hidden in given]
            raise InputError(
                f"{name} calls its output layer with {shapes} for tokens {tuple(ids.shape)}, not once with all of "
                "them. Give another causal language model."
            )
        steps = recorder.steps_to(wanted)
        if steps is None or not self._repeats(steps, given[0], wanted):
            raise InputError(
                f"what {name} does to the logits of its output layer cannot be repeated on a part of the tokens. "
                "Give another causal language model."
            )
        with eval_mode(self.network), torch.inference_mode():
            if not _close(self.hidden(ids[:, :-1]), given[0][:, :-1]):
                raise InputError(f"tokens of {name} see what comes after them. Give a causal language model.")
        return steps, int(wanted.shape[-1])

    def _repeats(self, steps: "_Steps", hidden: Tensor, wanted: Tensor) -> bool:
        """Whether `steps` make `wanted` of other tokens than were recorded, so of any number of them."""
        try:
            with torch.inference_mode():
                found = steps.replay(self._head(hidden[:, 1:]))
        except RuntimeError:
            return False
        return _close(found, wanted[:, 1:])


@contextmanager
def eval_mode(network: Any) -> Iterator[None]:
    """Evaluation mode inside; afterwards the mode it was in."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def _close(found: Tensor, wanted: Tensor) -> bool:
    tolerance = _TOLERANCE.get(wanted.dtype, _HALF_TOLERANCE) * float(wanted.abs().max())
    return found.shape == wanted.shape and bool(((found - wanted).abs() <= tolerance).all())


@dataclass(frozen=True)
class _Steps:
    """Calls that turned the tensor `first` into `last`."""

    first: Tensor
    calls: list[tuple[Any, tuple[Any, ...], Mapping[str, Any], Any]]
    last: Tensor

    def replay(self, logits: Tensor) -> Tensor:
        """The same calls on other logits, which may be overwritten."""
        values: dict[int, Tensor] = {id(self.first): logits}
        for function, args, kwargs, result in self.calls:
            made = function(*_swapped(args, values), **_swapped(dict(kwargs), values))
            values[id(result)] = made
        return values[id(self.last)]


class _Recorder(TorchFunctionMode):
    """Notes each call that is given the logits, or what was made of them."""

    def __init__(self) -> None:
        super().__init__()
        # The tensors are held, since the id of one that is gone can become another's.
        self._made: list[Tensor] = []
        self._calls: list[tuple[Any, tuple[Any, ...], Mapping[str, Any], Any]] = []

    def begin(self, logits: Tensor) -> None:
        """Start from `logits`."""
        self._made.append(logits)

    def steps_to(self, last: Tensor) -> _Steps | None:
        """What led to `last`; None if it was not made of the logits alone."""
        if not any(made is last for made in self._made):
            return None
        return _Steps(self._made[0], self._calls, last)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        ours = any(part is made for part in _leaves((args, kwargs or {})) for made in self._made)
        if ours and (isinstance(result, Tensor) or func is Tensor.__setitem__):
            self._calls.append((func, args, kwargs or {}, result))
            if isinstance(result, Tensor):
                self._made.append(result)
        return result


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _swapped(value: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_swapped(item, values) for item in value)
    if isinstance(value, dict):
        return {key: _swapped(item, values) for key, item in value.items()}
    return values.get(id(value), value) if isinstance(value, Tensor) else value
