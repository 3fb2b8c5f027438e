"""Keep the tail: train generative models on data that machines wrote, without collapse.

The package itself imports nothing heavy. Each room is imported by name, for example
`from tailkeep.losses import truncated_cross_entropy` or `from tailkeep import lab`.
"""

__version__ = "0.2.0.dev0"
