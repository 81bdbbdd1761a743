"""Figures: each module first measures data, then draws them."""
