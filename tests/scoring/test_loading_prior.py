import json

import pytest
import torch

from tailkeep.errors import ConfigError, InputError
from tailkeep.scoring import CausalLMScorer, Prior


def test_a_prior_that_cannot_be_read_is_an_error(folder, tmp_path):
    def check_error(message, error=InputError, **options):
        with pytest.raises(error, match=message):
            CausalLMScorer(Prior(**{"path": tmp_path, "device": "cpu", **options}))

    check_error("holds no config.json")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    check_error("holds no .*safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    check_error("cannot be read")
    check_error("revision: 'main' has no effect", ConfigError, path=folder, revision="main")
    if not torch.cuda.is_available():
        check_error("torch sees no GPU", ConfigError, path=folder, device="cuda")
    config["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    check_error("weights are missing, such as model.layers.2")


def test_code_beside_the_weights_runs_only_if_asked_for(folder, tmp_path, monkeypatch):
    # Where transformers copies such code, so that the test leaves nothing at home.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = "unheard_of"
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "Path(__file__).with_name('ran').touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'unheard_of'\n"
        "class Own(LlamaForCausalLM):\n    config_class = OwnConfig\n",
        encoding="utf-8",
    )
    with pytest.raises(InputError, match="cannot be read"):
        CausalLMScorer(Prior(path=tmp_path, device="cpu"))
    trusted = CausalLMScorer(Prior(path=tmp_path, device="cpu", trust_remote_code=True))
    assert "own.py" in trusted.identity()["files"]


@pytest.mark.parametrize(
    ("saved", "native", "dtype", "expected"),
    [
        ("bfloat16", True, "auto", "bfloat16"),
        ("bfloat16", False, "auto", "float32"),
        ("float32", True, "auto", "float32"),
        ("bfloat16", True, "float32", "float32"),
        ("float32", False, "bfloat16", "bfloat16"),
    ],
)
def test_auto_takes_the_saved_format_where_the_processor_has_it(
    folder, tmp_path, monkeypatch, saved, native, dtype, expected
):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "dtype": saved}), encoding="utf-8")
    monkeypatch.setattr("tailkeep.scoring.loading.has_native_bfloat16", lambda device: native)
    assert CausalLMScorer(Prior(path=tmp_path, device="cpu", dtype=dtype)).identity()["dtype"] == expected
