"""The learner `gan`: a generator and a discriminator in the recursion.

torch is imported by the modules that compute; `settings` does without, since every configuration is read through it.
"""
