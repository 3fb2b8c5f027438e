"""The tiny tokenizer and model folder of the language models' tests."""

from tests.lab.causal_lm.conftest import hf_tokenizer, model_folder, one_thread, tokenizer, weights

__all__ = ["hf_tokenizer", "model_folder", "one_thread", "tokenizer", "weights"]
