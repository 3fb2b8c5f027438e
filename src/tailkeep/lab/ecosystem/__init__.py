"""The learner `ecosystem`: several language models of any size and family that write one pool of text and train on it.

Nothing here but the settings is imported before an ecosystem is studied: torch and transformers are an extra.
"""
