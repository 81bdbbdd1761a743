"""The learned denoiser, its backbones, and networks for other methods."""

from stochloc.nn.backbones import DIT, ENCODER, MOSTLY_LEFT, TWO_SIDED, Backbone, leaves_out
from stochloc.nn.config import ModelConfig
from stochloc.nn.model import LocalizationModel, TargetNats, smoothed_log_unigram
from stochloc.nn.network import Network, token_network

__all__ = [
    "DIT",
    "ENCODER",
    "MOSTLY_LEFT",
    "TWO_SIDED",
    "Backbone",
    "LocalizationModel",
    "ModelConfig",
    "Network",
    "TargetNats",
    "leaves_out",
    "smoothed_log_unigram",
    "token_network",
]
