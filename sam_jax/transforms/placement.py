"""Where a SAM transform stands among other links of optax, and where it must not.

A transform sees what comes down to it, and cannot tell a gradient from anything else of
its shape. So the two places where a run would go wrong in silence are read off the
calls that led here, while `update` is traced: `optax.chain` and `optax.MultiSteps` call
`update` from code that is known.
"""

import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import jax
import optax

_CHAIN: CodeType = optax.chain(optax.identity()).update.__code__
_ACCUMULATION: CodeType = optax.MultiSteps.update.__code__


def check(name: str) -> None:
    """Refuses an update that is called where its result would be wrong.

    Raises: ValueError inside `optax.MultiSteps`, and behind an optimiser in
      `optax.chain` (one that keeps moments or momentum; plain SGD is not seen).
    """
    for frame in _callers():
        if frame.f_code is _ACCUMULATION:
            raise ValueError(
                f"{name} stands inside optax.MultiSteps, which hands it the gradient "
                "of all microbatches with the last microbatch alone to descend on. Put "
                "MultiSteps behind it: chain(sam_jax.sam(rho), MultiSteps(optimizer, "
                "k).gradient_transformation()), or use sam_jax.value_and_grad("
                "accumulate=k)."
            )
        if frame.f_code is _CHAIN:
            for state in frame.f_locals.get("new_state", ()):
                if _is_of_optimizer(state):
                    raise ValueError(
                        f"{name} stands behind an optimiser in optax.chain, so that it "
                        "would ascend along an update that points downhill, and its "
                        "gradient would be added to the parameters. Put it in front: "
                        "chain(sam_jax.sam(rho), optax.adam(learning_rate))."
                    )


def _callers() -> Iterator[FrameType]:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        yield frame


def _is_of_optimizer(state: Any) -> bool:
    """Whether a link's state is that of an optimiser such as `optax.adam`.

    These are chains: their state is a plain tuple, and holds what they remember. The
    state of a single transformation is a NamedTuple: `optax.ema` in front of SAM, say,
    makes it ascend along an average, which is a method of its own.
    """
    remembered = [x for x in jax.tree.leaves(state) if x.dtype != bool]
    return type(state) is tuple and bool(remembered)
