"""The learner `ecosystem`: several language models that generate one pool of text and train on it.

Rule: only its configuration is imported before such an arm is built; torch and transformers are an extra.
"""
