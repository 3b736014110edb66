"""The compiled core: objective, ascent, groups and the sharpness-aware gradient."""
