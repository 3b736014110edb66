"""The recipes of `configs` go into the wheel as sam_jax/recipes; all else is in
pyproject.toml.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sam_jax*"]), "sam_jax.recipes"],
    package_dir={"sam_jax.recipes": "configs"},
)
