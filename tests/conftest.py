"""Settings of every test: float64, so that closed forms are checked to rounding;
programs compiled fast, since most run once; a compilation cache that keeps small
programs too; memory of finished modules given back."""

import gc
import os
import pathlib

from tests import compilation

# Before jax starts, and for every process that a test starts. XLA_FLAGS= pytest tests
# what users run.
os.environ.setdefault("XLA_FLAGS", compilation.QUICK)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Where in the code an operation comes from takes 6% of the time of a trace.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
# Python's own collector takes a fifth of the time of tracing.
gc.set_threshold(100_000, 20, 50)

STATM = pathlib.Path("/proc/self/statm")
MOST = 3 * 2**29  # bytes


def resident():
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """A worker that keeps every program of every module reaches 5 GiB."""
    yield
    if not STATM.exists() or resident() > MOST:
        jax.clear_caches()
        gc.collect()
