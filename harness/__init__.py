"""Reproducible-build harness for ML compilers."""

__version__ = "0.1.0"
