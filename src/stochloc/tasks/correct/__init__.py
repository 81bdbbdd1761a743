"""Correcting a corrupted text."""

from stochloc.tasks.correct.correct import correct
from stochloc.tasks.correct.correction import Change, Correction

__all__ = ["Change", "Correction", "correct"]
