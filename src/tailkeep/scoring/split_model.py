"""A causal language model split in two: hidden states from one pass of its body, log-probabilities chunk by chunk.

Rule: the logits are exactly the model's. The calls of its code on the output of the LM head (scaling, softcap, slicing)
are recorded once and replayed on each chunk; a model that this does not reproduce is an error. No tensor of all tokens
times the vocabulary ever exists.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tailkeep.errors import InputError
from tailkeep.losses.sequences import evaluation_mode
from tailkeep.scoring.loading import max_positions_of

# The most logits in memory at once, 32 MiB and 256 MiB in float32. A CPU is slower above and below; a GPU with fewer
# rows waits for the weights.
_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 26}
# But at least this many rows: each chunk reads the weights of a large vocabulary from memory again.
_MIN_ROWS = 256
# Between logits of one token computed in different batches, relative to the largest.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_TOLERANCE = 5e-2


class SplitModel:
    """`network` split into its body and its LM head; the caller sets its mode (train or eval).

    Raises:
        InputError: the LM head is missing, the logits cannot be reproduced, or tokens attend to later ones.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self.device: torch.device = next(network.parameters()).device
        head = network.get_output_embeddings()
        if not isinstance(head, nn.Module):
            raise InputError(f"{type(network).__name__} has no output embeddings. Give a causal language model.")
        self._head = head
        self._steps, self.vocab_size = self._record_steps()

    @property
    def num_readable_ids(self) -> int:
        """The number of token ids that the model can both read and predict."""
        return min(len(self.network.get_input_embeddings().weight), self.vocab_size)

    @property
    def max_positions(self) -> int | None:
        """The longest sequence that the model supports, if its configuration states one."""
        return max_positions_of(self.network)

    @property
    def chunk_size(self) -> int:
        """The number of tokens whose logits are computed at once."""
        return max(_MIN_ROWS, _LOGITS.get(self.device.type, _LOGITS["cuda"]) // self.vocab_size)

    def hidden_states(self, ids: Tensor) -> Tensor:
        """The inputs of the LM head, (B, T, D) for `ids` (B, T), padded on the right with any id.

        Padding is not masked, since a causal model never looks ahead: a mask costs a tenth of the speed and, where
        a sliding window holds only padding, becomes NaN in some attention kernels.
        """
        inputs: list[Tensor] = []

        def capture(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            inputs.append(args[0])
            return (args[0][:1, :1], *args[1:])

        handle = self._head.register_forward_pre_hook(capture)
        try:
            self.network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        finally:
            handle.remove()
        (hidden,) = inputs
        assert hidden.shape[:2] == ids.shape
        return hidden

    def log_probs(self, hidden: Tensor) -> Tensor:
        """ln p (N, V) in float32 of the token after each of `hidden` (N, D); N is at most `chunk_size`."""
        logits = self._steps.replay(self._head(hidden[None]).float())[0]
        # log_softmax is exact for probabilities near 1, where a difference of logsumexps is not; in place, since
        # another tensor of this size costs a CPU a tenth of the time of the LM head.
        return torch.log_softmax(logits, -1, out=logits)

    def _record_steps(self) -> tuple["_Steps", int]:
        ids = torch.arange(3, device=self.device)[None] % len(self.network.get_input_embeddings().weight)
        recorder, inputs = _Recorder(), list[Tensor]()

        def begin(_: nn.Module, args: tuple[Any, ...], logits: Tensor) -> None:
            inputs.append(args[0])
            recorder.begin(logits)

        handle = self._head.register_forward_hook(begin)
        try:
            with evaluation_mode(self.network), torch.inference_mode(), recorder:
                expected = self.network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        finally:
            handle.remove()
        name = type(self.network).__name__
        if len(inputs) != 1 or inputs[0].shape[:2] != ids.shape:
            shapes = [tuple(hidden.shape) for hidden in inputs]
            raise InputError(
                f"{name} calls its LM head with inputs of shapes {shapes} for tokens {tuple(ids.shape)}, not once with "
                "all of them. Give another causal language model."
            )
        steps = recorder.steps_to(expected)
        if steps is None or not self._reproduces(steps, inputs[0], expected):
            raise InputError(
                f"the operations of {name} on the logits of its LM head cannot be replayed on a part of the tokens. "
                "Give another causal language model."
            )
        with evaluation_mode(self.network), torch.inference_mode():
            if not _is_close(self.hidden_states(ids[:, :-1]), inputs[0][:, :-1]):
                raise InputError(f"tokens of {name} attend to later tokens. Give a causal language model.")
        return steps, int(expected.shape[-1])

    def _reproduces(self, steps: "_Steps", hidden: Tensor, expected: Tensor) -> bool:
        """Whether `steps` give `expected` for fewer tokens than were recorded, so for any number of them."""
        try:
            with torch.inference_mode():
                logits = steps.replay(self._head(hidden[:, 1:]))
        except RuntimeError:
            return False
        return _is_close(logits, expected[:, 1:])


def _is_close(actual: Tensor, expected: Tensor) -> bool:
    tolerance = _TOLERANCE.get(expected.dtype, _HALF_TOLERANCE) * float(expected.abs().max())
    return actual.shape == expected.shape and bool(((actual - expected).abs() <= tolerance).all())


@dataclass(frozen=True)
class _Steps:
    """The recorded calls from the tensor `first` to `last`."""

    first: Tensor
    calls: list[tuple[Any, tuple[Any, ...], Mapping[str, Any], Any]]
    last: Tensor

    def replay(self, logits: Tensor) -> Tensor:
        """The same calls on other logits, which they may overwrite."""
        values: dict[int, Tensor] = {id(self.first): logits}
        for function, args, kwargs, result in self.calls:
            values[id(result)] = function(*_substitute(args, values), **_substitute(dict(kwargs), values))
        return values[id(self.last)]


class _Recorder(TorchFunctionMode):
    """Records each call that takes the logits or a tensor derived from them."""

    def __init__(self) -> None:
        super().__init__()
        # The tensors stay referenced, since the id of a freed one can be reused.
        self._derived: list[Tensor] = []
        self._calls: list[tuple[Any, tuple[Any, ...], Mapping[str, Any], Any]] = []

    def begin(self, logits: Tensor) -> None:
        """Start recording from `logits`."""
        self._derived.append(logits)

    def steps_to(self, last: Tensor) -> _Steps | None:
        """The steps to `last`; None if it is not derived from the logits."""
        if not any(tensor is last for tensor in self._derived):
            return None
        return _Steps(self._derived[0], self._calls, last)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_derived = any(leaf is tensor for leaf in _leaves((args, kwargs or {})) for tensor in self._derived)
        if is_derived and (isinstance(result, Tensor) or func is Tensor.__setitem__):
            self._calls.append((func, args, kwargs or {}, result))
            if isinstance(result, Tensor):
                self._derived.append(result)
        return result


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _substitute(value: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_substitute(item, values) for item in value)
    if isinstance(value, dict):
        return {key: _substitute(item, values) for key, item in value.items()}
    return values.get(id(value), value) if isinstance(value, Tensor) else value
