"""The losses from hidden states as two operators of PyTorch, which torch.compile takes whole.

    tailkeep::token_facts       NLL, log-sum-exp and mean logit of each token, whose backward pass computes logits again
    tailkeep::truncated_total   a truncated loss of all tokens, whose gradients are ready when it returns
    tailkeep::first_order       the upstream gradient; what is made of it cannot be differentiated once more

Rule: an operator runs the passes that the eager functions run, on the same chunks, and checks the same inputs when it
runs. Which tokens count is known only then, so nothing of it is seen by the compiler: shapes follow from the inputs'.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.eager import LinearCall, LinearInputs
from tailkeep.losses.engines.chunked import Chunked
from tailkeep.losses.engines.logit_ops import Partials, accumulation_dtype
from tailkeep.losses.engines.passes import facts_pass, recomputed, weighted_pass
from tailkeep.losses.lm_head import LowRankProduct
from tailkeep.losses.terms import LossTerms
from tailkeep.losses.truncation import truncated
from tailkeep.losses.weighting import Entropy

_NUM_TENSORS = 5
"""Hidden states, weight, bias and both factors of a low-rank product: what may have a gradient."""


@torch.library.custom_op("tailkeep::first_order", mutates_args=())
def first_order(upstream: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """`upstream`, as if it depended on `inputs`: a gradient made of it does, so a second derivative must not be 0."""
    del inputs
    return upstream.clone()


@first_order.register_fake
def _(upstream: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    del inputs
    return torch.empty_like(upstream)


def _refuse_second_order(ctx: Any, *upstream: Any) -> Any:
    del ctx, upstream
    raise ConfigError(
        "a fused loss under torch.compile has no second-order gradients (create_graph=True). Call it outside the "
        "compiled function, or compute the loss on the logits."
    )


first_order.register_autograd(_refuse_second_order)


@torch.library.custom_op("tailkeep::token_facts", mutates_args=())
def token_facts(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    up: Tensor | None,
    targets: Tensor,
    class_weight: Tensor | None,
    scale: float,
    softcap: float | None,
    ignore_index: int,
    label_smoothing: float,
    nll_alone: bool,
    entropy: str,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(...) NLL, log-sum-exp, mean logit, entropy and correctness; see `TokenFacts`, 0 where a target is ignored.

    `nll_alone` says that only the NLL will have a gradient; `entropy` is "", "full" or a number.
    """
    del nll_alone  # for the backward pass
    call, engine = _call(
        (hidden, weight, bias, low, up), targets, scale, softcap, ignore_index, impl, label_smoothing, class_weight
    )
    requested: Entropy = None if entropy == "" else "full" if entropy == "full" else int(entropy)
    facts = facts_pass(engine.workspace, call.hidden, call.head, call.targets, entropy=requested, terms=call.terms)
    parts = (facts.nll, facts.lse, facts.mean_logits, facts.entropy, facts.correct)
    nll, lse, mean_logits, spread, correct = (call.spread(part).clone() for part in parts)
    return nll, lse, mean_logits, spread, correct


@token_facts.register_fake
def _(hidden: Tensor, weight: Tensor, bias: Any, low: Any, up: Any, targets: Tensor, *others: Any) -> Any:
    del weight, bias, low, up, others
    return (*(_per_token(hidden, targets) for _ in range(4)), _per_token(hidden, targets, torch.bool))


@torch.library.custom_op("tailkeep::token_facts_backward", mutates_args=())
def token_facts_backward(
    to_nll: Tensor,
    to_lse: Tensor | None,
    to_mean_logits: Tensor | None,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    up: Tensor | None,
    targets: Tensor,
    class_weight: Tensor | None,
    scale: float,
    softcap: float | None,
    ignore_index: int,
    label_smoothing: float,
    impl: str,
    needs_grad: Sequence[bool],
) -> list[Tensor]:
    """The gradients of those of hidden, weight, bias, low and up that need one, for (...) upstream ones."""
    call, engine = _call(
        (hidden, weight, bias, low, up), targets, scale, softcap, ignore_index, impl, label_smoothing, class_weight
    )
    upstream = (None if to is None else _counted(call, to) for to in (to_nll, to_lse, to_mean_logits))
    gradients = recomputed(
        engine.workspace,
        call.hidden,
        call.head,
        call.targets,
        terms=call.terms,
        partials=Partials(*upstream),  # type: ignore[arg-type]
        needs_grad=tuple(needs_grad),
    )
    return [gradient for gradient in _whole(call, gradients, hidden, low) if gradient is not None]


@token_facts_backward.register_fake
def _(*inputs: Any) -> list[Tensor]:
    tensors, needs_grad = inputs[3 : 3 + _NUM_TENSORS], inputs[-1]
    return [tensor.new_empty(tensor.shape) for tensor, needs in zip(tensors, needs_grad, strict=True) if needs]


def _save_facts(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del output
    tensors, targets, class_weight, rest = inputs[:5], inputs[5], inputs[6], inputs[7:]
    ctx.save_for_backward(*tensors, targets, class_weight)
    ctx.options, ctx.needs_grad = rest, ctx.needs_input_grad[:_NUM_TENSORS]


def _facts_backward(ctx: Any, to_nll: Tensor, to_lse: Tensor, to_mean_logits: Tensor, *_: Any) -> tuple[Any, ...]:
    scale, softcap, ignore_index, label_smoothing, nll_alone, _, impl = ctx.options
    *tensors, targets, class_weight = ctx.saved_tensors
    gradients = iter(
        token_facts_backward(
            to_nll,
            None if nll_alone else to_lse,
            to_mean_logits if label_smoothing else None,
            *tensors,
            targets,
            class_weight,
            scale,
            softcap,
            ignore_index,
            label_smoothing,
            impl,
            list(ctx.needs_grad),
        )
    )
    return (*(next(gradients) if needs else None for needs in ctx.needs_grad), *(None,) * 9)


token_facts_backward.register_autograd(_refuse_second_order)
token_facts.register_autograd(_facts_backward, setup_context=_save_facts)


@torch.library.custom_op("tailkeep::truncated_total", mutates_args=())
def truncated_total(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    up: Tensor | None,
    targets: Tensor,
    class_weight: Tensor | None,
    share: Tensor,
    threshold: float,
    scale: float,
    softcap: float | None,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    impl: str,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The sum of the losses times `share`, a scalar; (...) NLL, kept mask and correctness; five gradients.

    Those are of hidden, weight, bias, low and up, empty where `needs_grad` is False.
    """
    tensors = (hidden, weight, bias, low, up)
    call, engine = _call(tensors, targets, scale, softcap, ignore_index, impl, label_smoothing, class_weight, z_loss)
    done = weighted_pass(
        engine.workspace,
        call.hidden,
        call.head,
        call.targets,
        truncated(threshold),
        terms=call.terms,
        expected=share,
        needs_grad=tuple(needs_grad),
    )
    factor = None if done.expected is share else share / done.expected
    gradients = _whole(call, done.gradients.finish(call.head, factor), hidden, low)
    empty = (hidden.new_empty(0) if gradient is None else gradient for gradient in gradients)
    parts = (done.facts.nll, done.weights != 0, done.facts.correct)
    nll, kept_mask, correct = (call.spread(part).clone() for part in parts)
    return done.losses.sum() * share, nll, kept_mask, correct, *empty  # type: ignore[return-value]


@truncated_total.register_fake
def _(hidden: Tensor, weight: Tensor, bias: Any, low: Any, up: Any, targets: Tensor, *others: Any) -> Any:
    flags = (_per_token(hidden, targets, torch.bool) for _ in range(2))
    gradients = (
        hidden.new_empty(tensor.shape if needs else 0)
        for tensor, needs in zip((hidden, weight, bias, low, up), others[-1], strict=True)
    )
    total = hidden.new_empty((), dtype=accumulation_dtype(hidden.dtype))
    return total, _per_token(hidden, targets), *flags, *gradients


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    ctx.save_for_backward(*output[-_NUM_TENSORS:], *inputs[:_NUM_TENSORS])
    ctx.needs_grad = inputs[-1]


def _truncated_backward(ctx: Any, to_total: Tensor, *_: Any) -> tuple[Any, ...]:
    ready, tensors = ctx.saved_tensors[:_NUM_TENSORS], ctx.saved_tensors[_NUM_TENSORS:]
    to_total = first_order(to_total, [tensor for tensor, needs in zip(tensors, ctx.needs_grad, strict=True) if needs])
    gradients = (gradient * to_total if needs else None for gradient, needs in zip(ready, ctx.needs_grad, strict=True))
    return (*gradients, *(None,) * 11)


truncated_total.register_autograd(_truncated_backward, setup_context=_save_gradients)


def _call(
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None],
    targets: Tensor,
    scale: float,
    softcap: float | None,
    ignore_index: int,
    impl: str,
    label_smoothing: float,
    class_weight: Tensor | None,
    z_loss: float = 0.0,
) -> tuple[LinearCall, Chunked]:
    hidden, weight, bias, low, up = tensors
    inputs = LinearInputs(
        hidden,
        weight,
        targets,
        bias,
        softcap,
        scale,
        low_rank=None if low is None or up is None else LowRankProduct(low, up),
        ignore_index=ignore_index,
        impl=impl,
    )
    call = LinearCall.of(inputs, entropy=None, terms=LossTerms(label_smoothing, class_weight, z_loss))
    assert isinstance(call.engine, Chunked), "the reference is no operator"
    return call, call.engine


def _per_token(hidden: Tensor, targets: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return hidden.new_empty(targets.shape, dtype=dtype or accumulation_dtype(hidden.dtype))


def _counted(call: LinearCall, values: Tensor) -> Tensor:
    """(...) as (N,), those of the targets that count."""
    flat = values.reshape(-1)
    return flat if call.places is None else flat[call.places]


def _whole(
    call: LinearCall, gradients: tuple[Tensor | None, ...], hidden: Tensor, low: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The gradients with those of the tokens that do not count."""
    to_hidden, to_weight, to_bias, to_low, to_up = gradients
    return _spread_rows(call, to_hidden, hidden), to_weight, to_bias, _spread_rows(call, to_low, low), to_up


def _spread_rows(call: LinearCall, rows: Tensor | None, of: Tensor | None) -> Tensor | None:
    if rows is None or of is None:
        return None
    if call.places is None:
        return rows.view(of.shape)
    empty = rows.new_zeros((len(call.valid), rows.shape[1]))
    return empty.index_copy_(0, call.places, rows).view(of.shape)
