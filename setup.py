"""What pyproject.toml cannot say: configs/ is installed as solo_jax.configs."""

import setuptools

setuptools.setup(
  packages=[
    *setuptools.find_packages(include=["solo_jax*"]),
    "solo_jax.configs",
  ],
  package_dir={"solo_jax.configs": "configs"},
)
