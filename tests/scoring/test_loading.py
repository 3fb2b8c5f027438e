import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tailkeep.errors import ConfigError, InputError
from tailkeep.scoring.loading import load_network, local_folder


class Hostile:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def model_folder(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def test_a_folder_is_read_as_it_was_saved(folder, network):
    assert local_folder(folder, key="model.path") == folder
    loaded = load_network(folder)
    assert not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())


def test_weights_are_float32_whatever_was_saved_unless_asked_for(model_folder):
    weights_in_half = {name: value.bfloat16() for name, value in load_file(model_folder / "model.safetensors").items()}
    save_file(weights_in_half, model_folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert {parameter.dtype for parameter in load_network(model_folder).parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in load_network(model_folder, dtype=None).parameters()} == {torch.bfloat16}


def test_a_folder_with_only_a_pickle_is_an_error_and_not_executed(model_folder, tmp_path):
    (model_folder / "model.safetensors").unlink()
    trace = tmp_path / "executed"
    (model_folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(InputError, match=r"holds no \*.safetensors, and other formats are not read"):
        local_folder(model_folder, key="model.path")
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(model_folder)
    assert not trace.exists()
    with (model_folder / "pytorch_model.bin").open("rb") as file:  # the trap does work
        pickle.load(file).close()
    assert trace.exists()


def test_a_pickle_beside_the_weights_is_passed_over(model_folder, tmp_path):
    trace = tmp_path / "executed"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (model_folder / name).write_bytes(pickle.dumps(Hostile(trace)))
    load_network(model_folder)
    assert not trace.exists()


def test_weights_that_are_a_pickle_in_disguise_are_one_clear_error(model_folder, tmp_path):
    trace = tmp_path / "executed"
    (model_folder / "model.safetensors").write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(InputError, match=r"the model cannot be read \(.*\). Save it again") as caught:
        load_network(model_folder)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_code_in_a_model_folder_is_not_run(model_folder, tmp_path):
    config = json.loads((model_folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "hostile.Config", "AutoModelForCausalLM": "hostile.Model"}
    config["model_type"] = "hostile"
    (model_folder / "config.json").write_text(json.dumps(config))
    trace = tmp_path / "executed"
    (model_folder / "hostile.py").write_text(f"open({str(trace)!r}, 'w').close()")
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(model_folder)
    assert not trace.exists()


@pytest.mark.parametrize("size", [0, 100, -5])
def test_weights_that_are_cut_off_are_one_clear_error(model_folder, size):
    content = (model_folder / "model.safetensors").read_bytes()
    (model_folder / "model.safetensors").write_bytes(content[:size])
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(model_folder)


def test_weights_that_are_missing_are_not_made_up(model_folder):
    tensors = load_file(model_folder / "model.safetensors")
    name = next(name for name in tensors if "layers.1" in name)
    del tensors[name]
    save_file(tensors, model_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"1 weights are missing, such as {name}"):
        load_network(model_folder)


def test_weights_of_another_shape_are_one_clear_error(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps({**config, "vocab_size": 17}))
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(model_folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model_type": "no-such-thing"}'])
def test_a_broken_configuration_is_one_clear_error(model_folder, content):
    (model_folder / "config.json").write_text(content)
    with pytest.raises(InputError, match="the model cannot be read"):
        load_network(model_folder)


def test_a_folder_that_holds_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no config.json. Give a folder saved by save_pretrained"):
        local_folder(tmp_path, key="model.path")


@pytest.mark.parametrize("name", ["nobody/no-such-model-here", "nowhere"])
def test_what_is_neither_here_nor_on_the_hub_is_one_clear_error(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="is neither a local folder nor a model that can be downloaded") as caught:
        local_folder(Path(name), key="model.path")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no/such/folder/at/all", "/nowhere", "../nowhere", "~/nowhere"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(name, monkeypatch):
    def download(*_, **__):
        raise AssertionError("the hub was contacted")

    monkeypatch.setattr("tailkeep.scoring.loading.snapshot_download", download)
    with pytest.raises(InputError, match=r"^model\.path: there is no folder .*(nowhere|at/all)"):
        local_folder(Path(name), key="model.path")


def test_a_revision_of_a_folder_would_do_nothing_and_is_an_error(folder):
    with pytest.raises(ConfigError, match=r"model\.revision: 'main' has no effect"):
        local_folder(folder, key="model.path", revision="main")


@pytest.mark.parametrize("module", ["httpx", "requests"])
def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, module):
    client = pytest.importorskip(module)
    error = client.ConnectError("no route") if module == "httpx" else client.ConnectionError("no route")

    def unreachable(*_, **__):
        raise error

    monkeypatch.setattr("tailkeep.scoring.loading.snapshot_download", unreachable)
    with pytest.raises(InputError, match=r"neither a local folder nor a model .* \(no route\)"):
        local_folder(Path("owner/name"), key="prior.path")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "missing.safetensors", 3])
def test_an_index_of_weights_names_files_beside_it_alone(model_folder, name):
    index = model_folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(InputError, match=r"which is no file beside it|is no index of weights"):
        local_folder(model_folder, key="prior.path")
    index.write_text("[" * 100_000)
    with pytest.raises(InputError, match="is no index of weights"):
        local_folder(model_folder, key="prior.path")
