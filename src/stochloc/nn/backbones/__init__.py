"""Backbones, one file each; one joins by a line here."""

from collections.abc import Callable

from stochloc.nn.backbones.base import Backbone, ContextNetwork
from stochloc.nn.backbones.two_sided import TwoSidedTransformer

ENCODER = "encoder"
TWO_SIDED = "two-sided"
ARCHITECTURES: dict[str, Callable[[Backbone], ContextNetwork]] = {
    ENCODER: Backbone.transformer,
    TWO_SIDED: TwoSidedTransformer,
}

__all__ = ["ARCHITECTURES", "ENCODER", "TWO_SIDED", "Backbone", "ContextNetwork"]
