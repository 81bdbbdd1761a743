"""Figures of what is measured: data first, then the drawing."""
