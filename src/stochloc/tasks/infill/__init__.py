"""Filling the blanks of a text."""

from stochloc.tasks.infill.fill import Answer, Infilled, Infilling, infill

__all__ = ["Answer", "Infilled", "Infilling", "infill"]
