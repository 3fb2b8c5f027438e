"""Stand-ins for frameworks that are not installed: the signatures their documentation gives, and no more.

Rule: where a framework is installed, its own classes are taken in their place.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Configurable:
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.Config.owner = cls


class TitanBaseLoss(Configurable):
    @dataclass(kw_only=True)
    class Config:
        def build(self, **kwargs):
            return type(self).owner(self, **kwargs)

    def _maybe_compile(self, compile_config):
        assert compile_config is None

    def __call__(self, pred, labels, global_valid_tokens=None, **kwargs):
        loss = self.fn(pred, labels)
        return (loss if global_valid_tokens is None else loss / global_valid_tokens), {}


class TitanChunkedLossWrapper(TitanBaseLoss):
    @dataclass(kw_only=True)
    class Config(TitanBaseLoss.Config):
        num_chunks: int = 8
        loss_fn: Any = field(default=None)

    def __init__(self, config, *, compile_config=None):
        self.num_chunks = config.num_chunks
        self.loss_fn = config.loss_fn.build(compile_config=compile_config)

    def set_lm_head(self, lm_head):
        self.lm_head = lm_head

    def __call__(self, pred, labels, global_valid_tokens=None, **kwargs):
        chunks = zip(pred.chunk(self.num_chunks, 1), labels.chunk(self.num_chunks, 1), strict=True)
        return sum(self.loss_fn(self.lm_head(h), y, global_valid_tokens)[0] for h, y in chunks), {}


def titan_compute_logprobs(logits, labels):
    return -F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), reduction="none", ignore_index=-100
    ).view_as(labels)


def megatron_step(
    model,
    output_tensor,
    loss_func,
    config,
    vp_stage,
    collect_non_loss_data,
    num_microbatches,
    forward_data_store,
    cp_group_size=None,
    is_last_stage=None,
):
    loss, num_tokens, report = loss_func(output_tensor)
    forward_data_store.append(report)
    return loss / num_tokens.clamp(min=1) / num_microbatches, num_tokens


class NemoLinearCrossEntropy(nn.Module):
    @staticmethod
    def materialize_lm_weight(lm_weight, *, grad_reduce_group=None):
        return lm_weight


def nemo_build(loss, **kwargs):
    return loss(**kwargs)


def nemo_calculate_loss(loss_fn, *, labels, num_label_tokens=None, hidden_states=None, lm_weight=None, **kwargs):
    return loss_fn(
        hidden_states=hidden_states,
        labels=labels,
        lm_weight=lm_weight,
        num_label_tokens=num_label_tokens,
        grad_reduce_group=kwargs.get("grad_reduce_group"),
        **({"loss_weights": kwargs["loss_weights"]} if kwargs.get("loss_weights") is not None else {}),
    )


class AxolotlPlugin:
    def get_input_args(self):
        return None

    def post_model_load(self, cfg, model):
        return None

    def post_trainer_create(self, cfg, trainer):
        return None


class SwiftLoss:
    def __init__(self, args, trainer):
        self.args, self.trainer = args, trainer


def llamafactory_run(args=None, callbacks=None):
    raise AssertionError("the launcher runs as a program only")


def per_token(hidden, weight, labels):
    """The (B, T) losses that all of them start from."""
    logits = (hidden @ weight.T).float()
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", ignore_index=-100).view_as(labels)


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)
