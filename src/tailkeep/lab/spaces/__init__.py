"""What the learners `flow` and `gan` turn noise into: points of the plane or grey images, and how both are measured.

torch is imported by the modules that compute; `settings` and `moons` do without, since every configuration is read
through them.
"""
