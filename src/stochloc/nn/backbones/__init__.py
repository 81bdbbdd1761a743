"""Backbones, one file each; one joins by a line here."""

from collections.abc import Callable
from functools import cache

from stochloc.nn.backbones.base import (
    Backbone,
    ContextNetwork,
    InStretch,
    ReadingNetwork,
    SidedNetwork,
    StretchNetwork,
)
from stochloc.nn.backbones.dit import DiffusionTransformer
from stochloc.nn.backbones.surroundings import EVERYWHERE, Surroundings
from stochloc.nn.backbones.two_sided import TwoSidedTransformer
from stochloc.nn.unfilled import unfilled

ENCODER = "encoder"
TWO_SIDED = "two-sided"
MOSTLY_LEFT = "mostly-left"
DIT = "dit"
ARCHITECTURES: dict[str, Callable[[Backbone], ContextNetwork]] = {
    ENCODER: Backbone.transformer,
    TWO_SIDED: TwoSidedTransformer,
    MOSTLY_LEFT: TwoSidedTransformer.mostly_left,
    DIT: DiffusionTransformer,
}


@cache
def leaves_out(architecture: str) -> bool:
    """Return whether networks of a kind never look at the token they predict.

    Args:
        architecture: One of `ARCHITECTURES`.

    Returns:
        Its declaration by the smallest network of its kind, which takes no memory.
    """
    with unfilled():
        return ARCHITECTURES[architecture](Backbone(2, 1, 1)).leaves_out


__all__ = [
    "ARCHITECTURES",
    "DIT",
    "ENCODER",
    "EVERYWHERE",
    "MOSTLY_LEFT",
    "TWO_SIDED",
    "Backbone",
    "ContextNetwork",
    "InStretch",
    "ReadingNetwork",
    "SidedNetwork",
    "StretchNetwork",
    "Surroundings",
    "leaves_out",
]
