"""Training runs: a checked configuration in, a work directory out.

config and keys -> problem and setup (data, network, loss, steps) -> loop (step by step,
with evaluate, checkpoint, writer, summary beside it). Nothing is imported here.
"""

from sam_jax import extras

extras.require("sam_jax.training", "train")
