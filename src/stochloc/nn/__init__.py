"""The learned denoiser: a converter from evidence to embeddings and a bidirectional transformer."""

from stochloc.nn.model import LocalizationModel, ModelConfig

__all__ = ["LocalizationModel", "ModelConfig"]
