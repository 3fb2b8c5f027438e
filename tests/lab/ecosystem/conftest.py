"""The tiny tokenizer and model folder of the language models' tests."""

from tests.lab.causal_lm.conftest import codec, model_folder, one_thread, tokenizer, weights

__all__ = ["codec", "model_folder", "one_thread", "tokenizer", "weights"]
