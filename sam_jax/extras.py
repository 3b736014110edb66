"""Optional dependencies: which extra brings what, and what is said where one lacks.

`pip install sam_jax` brings what the transforms need. The extra "train" brings what
networks, runs and pictures need, "data" the door to TFDS, "flows" the ODE solver, and
"all" all three.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator

# The top-level modules that an extra brings.
EXTRAS = {
    "train": (
        "flax",
        "matplotlib",
        "ml_collections",
        "orbax",
        "sklearn",
        "tensorboardX",
        "tqdm",
    ),
    "data": (
        "PIL",
        "array_record",
        "grain",
        "importlib_resources",
        "tensorflow_datasets",
    ),
    "flows": ("diffrax", "equinox", "lineax", "optimistix"),
}


def require(by: str, extra: str) -> None:
    """Raises ImportError of one line if a module that an extra brings is not there.

    Args:
      by: who needs it, such as "sam_jax.flows". extra: one of EXTRAS.
    """
    missing = [m for m in EXTRAS[extra] if importlib.util.find_spec(m) is None]
    if missing:
        raise ImportError(
            f"{by} needs {', '.join(missing)}, not installed here: pip install "
            f"'sam_jax[{extra}]', or '.[{extra}]' in a clone."
        )


@contextlib.contextmanager
def needed(by: str, extra: str) -> Iterator[None]:
    """`require` in front of the imports inside."""
    require(by, extra)
    yield


@contextlib.contextmanager
def needed_by_command(command: str, extra: str) -> Iterator[None]:
    """The same for a command: the line on stderr, and exit status 2."""
    try:
        require(command, extra)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    yield
