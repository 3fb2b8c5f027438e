import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import Scratch
from tailkeep.lab.causal_lm.model import new_network
from tests.lab.causal_lm.tiny import SHAPE


def scratch(type_="llama", **config):
    return Scratch(name="scratch", type=type_, config={**SHAPE, **config} if type_ == "llama" else config)


def test_new_weights_follow_from_their_seed_alone(tokenizer, generators):
    one, again, other = (new_network(scratch(), tokenizer, seed=seed) for seed in (1, 1, 2))
    weights = [network.lm_head.weight for network in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_new_model_speaks_the_tokenizers_language(tokenizer):
    config = new_network(scratch(), tokenizer, seed=0).config
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        tokenizer.size, tokenizer.start, tokenizer.stop, tokenizer.pad,
    )  # fmt: skip


@pytest.mark.parametrize("type_", ["gpt2", "gpt_neox"])
def test_other_architectures_can_be_named(tokenizer, type_):
    names = {
        "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64},
        "gpt_neox": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    }
    network = new_network(scratch(type_, **names[type_]), tokenizer, seed=0)
    assert network(input_ids=torch.tensor([[0, 1, 2]])).logits.shape == (1, 3, tokenizer.size)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (scratch("lama"), "model.type 'lama' cannot be built"),
        (scratch("t5"), "model.type 't5' cannot be built"),
        (scratch(num_attention_heads=3), "model.type 'llama' cannot be built"),
        (scratch(hidden_size="wide"), "model.type 'llama' cannot be built"),
        (scratch(hiden_size=8), r"'model.config.hiden_size' for model.type 'llama'. Did you mean 'hidden_size'"),
        (scratch(zzz=8), "unknown key 'model.config.zzz' for model.type 'llama'. Remove it."),
    ],
)
def test_an_architecture_that_cannot_be_built_is_one_short_error(tokenizer, model, message):
    with pytest.raises(ConfigError, match=message) as caught:
        new_network(model, tokenizer, seed=0)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
