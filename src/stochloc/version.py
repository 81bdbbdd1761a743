"""The version of the package, which a run notes; the ground floor, so that tasks may ask for it."""

__version__ = "0.1.0"
