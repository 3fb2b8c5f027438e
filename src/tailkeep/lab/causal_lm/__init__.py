"""The learner `causal_lm`: any Hugging Face causal language model in the recursion.

Rule: only its configuration is imported before such an arm is built; torch and transformers are an extra.
"""
