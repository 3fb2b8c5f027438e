"""A GGUF file is a model like any other: as a prior, as a start, in every verb that loads one."""

import json

import pytest
import torch

from tailkeep import lab
from tailkeep.errors import InputError
from tailkeep.scoring import CausalLMScorer, Prior
from tailkeep.scoring.loading import load_network, load_tokenizer, local_folder
from tests.gguf_file import small_llama, write_gguf
from tests.lab.causal_lm.tiny import STORIES, config_tree, write_stories

NETWORK, TOKENIZER = small_llama(STORIES)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf", NETWORK, TOKENIZER)


def test_a_file_gives_the_log_probabilities_of_what_was_written(gguf):
    assert local_folder(gguf, key="prior.path") == gguf
    network, tokenizer = load_network(gguf), load_tokenizer(gguf)
    ids = torch.tensor([TOKENIZER(STORIES[0])["input_ids"][:40]])
    with torch.no_grad():
        torch.testing.assert_close(network(ids).logits, NETWORK(ids).logits)
    expected = TOKENIZER(STORIES[0], add_special_tokens=False)["input_ids"]
    assert tokenizer(STORIES[0], add_special_tokens=False)["input_ids"] == expected


def test_what_was_read_can_be_saved_and_is_no_quantised_model(gguf, tmp_path):
    load_network(gguf).save_pretrained(tmp_path)
    saved = load_network(tmp_path)
    assert not hasattr(saved.config, "quantization_config")
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in load_network(gguf).state_dict().items())


def test_a_prior_is_known_by_the_bytes_of_its_file(gguf, tmp_path):
    other = write_gguf(tmp_path / "small.gguf", small_llama(STORIES, seed=1)[0], TOKENIZER)
    files = [CausalLMScorer(Prior(path=path)).identity()["files"] for path in (gguf, other)]
    assert [list(names) for names in files] == [["small.gguf"], ["small.gguf"]]
    assert files[0] != files[1]


def test_the_laboratory_starts_from_a_file(gguf, tmp_path):
    tree = config_tree("")
    tree["data"] = {"name": "text", "path": str(write_stories(tmp_path)), "separator": "line"}
    tree |= {"model": {"name": "pretrained", "path": str(gguf)}, "tokenizer": {}, "generations": 1, "device": "cpu"}
    lab.run(tree, tmp_path / "run")
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["held_out_nll"] > 0


def test_a_file_that_lacks_weights_is_refused(tmp_path):
    path = write_gguf(tmp_path / "part.gguf", NETWORK, TOKENIZER, without=("blk.1.ffn_up.weight",))
    with pytest.raises(InputError, match=r"part\.gguf: 1 weights are missing, such as model\.layers\.1\.mlp\.up_proj"):
        load_network(path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\x00" * 64])
def test_a_damaged_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    for load in (load_network, load_tokenizer):
        with pytest.raises(InputError, match=r"bad\.gguf") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_another_file_is_no_model(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.bin is a file\. Give the model's folder, or a \.gguf file"):
        local_folder(tmp_path / "model.bin", key="prior.path")
