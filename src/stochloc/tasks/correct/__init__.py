"""Correcting a corrupted text."""

from stochloc.tasks.correct.correct import Change, Correction, correct

__all__ = ["Change", "Correction", "correct"]
