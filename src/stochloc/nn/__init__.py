"""The learned denoiser, its backbones, and networks for other methods."""

from stochloc.nn.backbones import ENCODER, TWO_SIDED, Backbone
from stochloc.nn.model import LocalizationModel, ModelConfig, smoothed_log_unigram
from stochloc.nn.network import Network, token_network

__all__ = [
    "ENCODER",
    "TWO_SIDED",
    "Backbone",
    "LocalizationModel",
    "ModelConfig",
    "Network",
    "smoothed_log_unigram",
    "token_network",
]
