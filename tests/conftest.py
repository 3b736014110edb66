"""Settings of every test: float64, so that closed forms are checked to rounding, and
a compilation cache that keeps small programs too."""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
