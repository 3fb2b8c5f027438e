import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tailkeep.scoring import encode_without_eos, tempered_nll, token_log_probs
from tailkeep.scoring.questions import start_token_of

TEMPERATURES = (0.5, 1.0, 3.0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(30)
    return model


ROWS = [np.random.default_rng(n).integers(0, 40, length).astype(np.int32) for n, length in enumerate((2, 9, 1, 30, 9))]


def test_temperature_one_is_the_model_itself(network):
    nll = tempered_nll(network, ROWS, [1.0])[:, 0]
    assert nll == pytest.approx([-row.sum() for row in token_log_probs(network, ROWS)], rel=1e-5)


def test_each_row_is_that_of_explicit_logits_in_float64(network):
    nll = tempered_nll(network, ROWS, TEMPERATURES)
    assert nll.shape == (len(ROWS), len(TEMPERATURES))
    for row, sums in zip(ROWS, nll, strict=True):
        ids = torch.from_numpy(row.astype(np.int64))[None]
        with torch.no_grad():
            logits = network(ids).logits[0, :-1].double()
        for temperature, total in zip(TEMPERATURES, sums, strict=True):
            expected = -(logits / temperature).log_softmax(-1).gather(1, ids[0, 1:, None]).sum()
            assert total == pytest.approx(float(expected), rel=1e-5, abs=1e-9)


def test_batches_change_nothing(network):
    batched, alone = (tempered_nll(network, ROWS, TEMPERATURES, batch_tokens=size) for size in (10_000, 1))
    assert batched == pytest.approx(alone, rel=1e-5)


def test_the_mode_of_the_network_is_kept(network):
    network.train()
    tempered_nll(network, ROWS, [1.0])
    assert network.training
    network.eval()


def word_tokenizer(template):
    """Words of a small vocabulary; `<|end|>` is both the start and the end token, and stands where `template` says."""
    words = {"<|end|>": 0, "[UNK]": 1, "the": 2, "cat": 3, "sat": 4, "a": 5}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[("<|end|>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")


@pytest.mark.parametrize(
    ("template", "start", "ids"),
    [("$A <|end|>", None, [2, 3, 4]), ("<|end|> $A", 0, [0, 2, 3, 4]), ("<|end|> $A <|end|>", 0, [0, 2, 3, 4])],
)
def test_an_end_token_that_is_spelled_like_the_start_token_is_none(template, start, ids):
    tokenizer = word_tokenizer(template)
    assert start_token_of(tokenizer) == start
    assert encode_without_eos(tokenizer, "the cat sat").tolist() == ids
