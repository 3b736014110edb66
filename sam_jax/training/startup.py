"""What a command does before it trains, and a library never does: global settings."""

import os
import pathlib

import jax


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, from run to run.

    $JAX_COMPILATION_CACHE_DIR goes before $XDG_CACHE_HOME/sam_jax/xla, and that before
    ~/.cache/sam_jax/xla. Small programs are kept, too: there are dozens.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        caches = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(caches) / "sam_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
