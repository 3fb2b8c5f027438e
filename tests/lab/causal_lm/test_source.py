import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.settings import Pretrained, Scratch
from tailkeep.lab.causal_lm.source import load_network, local_folder, new_network
from tests.lab.causal_lm.tiny import SHAPE


class Hostile:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def pretrained(path, **choices):
    return Pretrained(name="pretrained", path=path, **choices)


def scratch(type_="llama", **config):
    return Scratch(name="scratch", type=type_, config={**SHAPE, **config} if type_ == "llama" else config)


@pytest.fixture
def copied(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def test_a_folder_is_read_as_it_was_saved(model_folder, weights):
    assert local_folder(pretrained(model_folder)) == model_folder
    network = load_network(model_folder)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in weights.state_dict().items())


def test_weights_are_float32_whatever_was_saved(copied, weights):
    weights_in_half = {name: value.bfloat16() for name, value in load_file(copied / "model.safetensors").items()}
    save_file(weights_in_half, copied / "model.safetensors", metadata={"format": "pt"})
    assert {parameter.dtype for parameter in load_network(copied).parameters()} == {torch.float32}


def test_a_folder_with_only_a_pickle_is_refused_and_not_executed(copied, tmp_path):
    (copied / "model.safetensors").unlink()
    trace = tmp_path / "executed"
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(InputError, match=r"holds no \*.safetensors, and other formats are not read"):
        local_folder(pretrained(copied))
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(copied)
    assert not trace.exists()
    with (copied / "pytorch_model.bin").open("rb") as file:  # the trap does work
        pickle.load(file).close()
    assert trace.exists()


def test_a_pickle_beside_the_weights_is_passed_over(copied, tmp_path):
    trace = tmp_path / "executed"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (copied / name).write_bytes(pickle.dumps(Hostile(trace)))
    load_network(copied)
    assert not trace.exists()


def test_weights_that_are_a_pickle_in_disguise_are_one_clear_error(copied, tmp_path):
    trace = tmp_path / "executed"
    (copied / "model.safetensors").write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(InputError, match=r"the model cannot be read \(.*\). Save it again") as caught:
        load_network(copied)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_code_in_a_model_folder_is_not_run(copied, tmp_path):
    config = json.loads((copied / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "hostile.Config", "AutoModelForCausalLM": "hostile.Model"}
    config["model_type"] = "hostile"
    (copied / "config.json").write_text(json.dumps(config))
    trace = tmp_path / "executed"
    (copied / "hostile.py").write_text(f"open({str(trace)!r}, 'w').close()")
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(copied)
    assert not trace.exists()


@pytest.mark.parametrize("size", [0, 100, -5])
def test_weights_that_are_cut_off_are_one_clear_error(copied, size):
    content = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(content[:size])
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(copied)


def test_weights_that_are_missing_are_not_made_up(copied):
    tensors = load_file(copied / "model.safetensors")
    name = next(name for name in tensors if "layers.1" in name)
    del tensors[name]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"1 weights are missing, such as {name}"):
        load_network(copied)


def test_weights_of_another_shape_are_one_clear_error(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "vocab_size": 17}))
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(copied)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model_type": "no-such-thing"}'])
def test_a_broken_configuration_is_one_clear_error(copied, content):
    (copied / "config.json").write_text(content)
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(copied)


def test_a_folder_that_holds_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no config.json. Give a folder saved by save_pretrained"):
        local_folder(pretrained(tmp_path))


@pytest.mark.parametrize("name", ["no/such/folder/at/all", "nobody/no-such-model-here", "./nowhere", "/nowhere"])
def test_what_is_neither_here_nor_on_the_hub_is_one_clear_error(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="is neither a folder here nor a model on the hub") as caught:
        local_folder(pretrained(name))
    assert "\n" not in str(caught.value)


def test_a_revision_of_a_folder_would_do_nothing_and_is_refused(model_folder):
    with pytest.raises(ConfigError, match=r"model\.revision: 'main' has no effect"):
        local_folder(pretrained(model_folder, revision="main"))


def test_new_weights_follow_from_their_seed_alone(codec, generators):
    one, again, other = (new_network(scratch(), codec, seed=seed) for seed in (1, 1, 2))
    weights = [network.lm_head.weight for network in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_new_model_speaks_the_tokenizers_language(codec):
    config = new_network(scratch(), codec, seed=0).config
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        codec.size, codec.start, codec.stop, codec.pad,
    )  # fmt: skip


@pytest.mark.parametrize("type_", ["gpt2", "gpt_neox"])
def test_other_architectures_can_be_named(codec, type_):
    names = {
        "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64},
        "gpt_neox": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    }
    network = new_network(scratch(type_, **names[type_]), codec, seed=0)
    assert network(input_ids=torch.tensor([[0, 1, 2]])).logits.shape == (1, 3, codec.size)


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
def test_an_architecture_that_cannot_be_built_is_one_short_error(codec, model, message):
    with pytest.raises(ConfigError, match=message) as caught:
        new_network(model, codec, seed=0)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
