"""The learner `causal_lm`: any Hugging Face causal language model in the recursion.

Nothing here is imported before a language model is studied: torch and transformers are an extra.
"""
