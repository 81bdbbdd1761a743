"""The learned denoiser, its backbones, and networks for other methods."""

from stochloc.nn.backbones import DIT, ENCODER, MOSTLY_LEFT, TWO_SIDED, Backbone, leaves_out
from stochloc.nn.config import ModelConfig
from stochloc.nn.model import LocalizationModel
from stochloc.nn.network import Network, token_network
from stochloc.nn.targets import Alone, TargetNats
from stochloc.nn.vocabulary import smoothed_log_unigram

__all__ = [
    "DIT",
    "ENCODER",
    "MOSTLY_LEFT",
    "TWO_SIDED",
    "Alone",
    "Backbone",
    "LocalizationModel",
    "ModelConfig",
    "Network",
    "TargetNats",
    "leaves_out",
    "smoothed_log_unigram",
    "token_network",
]
