"""The loss inside a Hugging Face causal language model: `attach`."""
