"""Discrete stochastic localization: walks through per-token signal-to-noise ratios."""

__version__ = "0.1.0"
