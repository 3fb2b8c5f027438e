"""The learner `flow`: flow matching, the deterministic form of a diffusion model, in the recursion.

torch is imported by the modules that compute; `settings` does without, since every configuration is read through it.
"""
