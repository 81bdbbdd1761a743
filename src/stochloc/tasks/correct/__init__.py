"""Repairing a text that was read wrongly."""

from stochloc.tasks.correct.correct import Change, Correction, correct

__all__ = ["Change", "Correction", "correct"]
