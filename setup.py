"""The four parts at the root are installed as r2t.store, r2t.extract, r2t.train and r2t.cli."""

from setuptools import find_packages, setup

PARTS = ("store", "extract", "train", "cli")

setup(
    packages=[
        f"r2t.{name}" for name in find_packages(include=[*PARTS, *(f"{part}.*" for part in PARTS)])
    ],
    package_dir={f"r2t.{part}": part for part in PARTS},
)
