"""Recipes: ml_collections configurations, one file each."""
