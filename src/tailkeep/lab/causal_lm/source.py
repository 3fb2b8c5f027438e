"""New weights of a named architecture. Rule: code is transformers' own; a pretrained model is `scoring.source`'s."""

import difflib
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.codec import Codec
from tailkeep.lab.causal_lm.settings import Scratch
from tailkeep.scoring.source import UNREADABLE, reason_of


def new_network(model: Scratch, codec: Codec, *, seed: int) -> Any:
    """Random weights for `codec`'s vocabulary.

    Raises:
        ConfigError: the architecture or its configuration is refused.
    """
    try:
        _refuse_unknown(model)
        config = AutoConfig.for_model(
            model.type,
            **{
                "vocab_size": codec.size,
                "bos_token_id": codec.start,
                "eos_token_id": codec.tokenizer.eos_token_id,
                "pad_token_id": codec.tokenizer.pad_token_id,
                **model.config,
            },
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except ConfigError:
        raise
    except UNREADABLE as error:
        raise ConfigError(
            f"model.type {model.type!r} cannot be built ({reason_of(error)}). Correct model.type or model.config."
        ) from None


def _refuse_unknown(model: Scratch) -> None:
    """transformers keeps a key that the architecture does not know, and does nothing with it."""
    default = AutoConfig.for_model(model.type)
    known = [*vars(default), *default.attribute_map]
    for key in model.config:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
            raise ConfigError(f"unknown key 'model.config.{key}' for model.type {model.type!r}. {hint}")
