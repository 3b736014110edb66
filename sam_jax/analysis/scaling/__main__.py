"""Prints the tables of docs/scaling.md."""

from sam_jax.analysis.scaling.tables import tables

for title, text in tables().items():
    print(f"\n### {title}\n\n{text}")
