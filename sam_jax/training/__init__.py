"""Training runs: a checked configuration in, a work directory out.

config and keys -> problem and setup (data, network, loss, steps) -> loop (step by step,
with evaluate, checkpoint, writer, summary beside it). Nothing is imported here before
`run` is asked for.
"""

from typing import Any

from sam_jax import extras

extras.require("sam_jax.training", "train")


def __getattr__(name: str) -> Any:
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sam_jax.training import loop

    return loop.run
