"""examples/fortifai_fig1.py: every model scores every text, and a rerun only prints."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.lab.causal_lm.tiny import SHAPE, STORIES

SCRIPT = Path(__file__).parents[1] / "examples" / "fortifai_fig1.py"


def model_folder(folder):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tailkeep.lab.causal_lm.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(STORIES, vocab_size=300)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), **{**SHAPE, "max_position_embeddings": 256})
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_model_that_learns_its_half_is_surer_of_it_than_the_base_and_a_rerun_prints_the_same(tmp_path):
    articles = [f" = Article {number} = \n \n" + " ".join(STORIES * 3) + "\n" for number in range(4)]
    (tmp_path / "selection").mkdir()
    (tmp_path / "selection" / "text.txt").write_text("\n".join(articles), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), "selection", str(model_folder(tmp_path / "model")), "out"]
    command += ["--seeds", "1", "--epochs", "30", "--learning-rate", "1e-2"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout for _ in range(2)
    )
    assert first == second
    scores = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    texts = {"trained", "unseen", *(f"{w}/{d}" for w in ("base", "seed-1") for d in ("greedy", "nucleus", "sample"))}
    assert {reader: set(read) for reader, read in scores.items()} == {"base": texts, "seed-1": texts}
    # A written text has the blocks of both halves, in their order, and another setting needs another folder.
    blocks = {name: len(values) for name, values in scores["base"].items()}
    assert {blocks[name] for name in texts - {"trained", "unseen"}} == {blocks["trained"] + blocks["unseen"]}
    refused = subprocess.run([*command, "--epochs", "2"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert refused.returncode == 1
    assert "out holds results with epochs 30.0, not 2.0. Give another folder" in refused.stderr
    assert np.mean(scores["seed-1"]["trained"]) > 2 * np.mean(scores["base"]["trained"])
    trained, unseen = ((tmp_path / "out" / f"{half}.txt").read_text(encoding="utf-8") for half in ("trained", "unseen"))
    assert "Article 0" in trained
    assert "Article 1" in unseen
    assert "Article 1" not in trained
