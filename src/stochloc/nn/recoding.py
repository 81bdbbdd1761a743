"""A trained model with other codes, or with a mask slot that gives way sooner.

A model that has only ever seen masks and known tokens, as masked diffusion does, never looked at a
code: a known token enters as its own row, and a mask has `z = 0`, whose evidence is 0 under any
codes. So its codes can be replaced, learned ones in place of the simplex's, and nothing that it
knows is lost. Where noise was seen in training, the network has to learn the new codes.

The mask slot takes the share `σ(lead)` of the converter's weight at zero SNR, where

    lead = slot - log Σ_v P(v)

is how many nats of evidence a token needs to weigh as much as the mask. An imported mask leads by
20: nothing of the tokens is seen at zero SNR, and nothing of them at any SNR below. A lead of 3
leaves the mask 95 % there and lets training show what lies between.
"""

import math
from dataclasses import replace

import torch

from stochloc.nn.config import ModelConfig
from stochloc.nn.model import LocalizationModel


def recoded(
    model: LocalizationModel,
    config: ModelConfig,
    mask_lead: float | None,
    generator: torch.Generator,
) -> LocalizationModel:
    """Return a model with the weights of another one, and codes or mask of its own.

    Args:
        model: The trained model.
        config: What the new model is made of: that of `model` but for its codes.
        mask_lead: Nats by which the mask outweighs all tokens together at zero SNR; None leaves its
            slot as it is.
        generator: Source of new codes.

    Returns:
        A new model, or the same one if nothing is new.

    Raises:
        ValueError: There is no mask slot, or the lead is not finite.
    """
    codes = {"code_dimension": config.code_dimension, "fixed_codes": config.fixed_codes}
    assert replace(model.config, **codes) == config
    if config == model.config and mask_lead is None:
        return model
    new = LocalizationModel(config)
    own = model.state_dict()
    if config != model.config:
        own = {name: value for name, value in own.items() if not name.startswith("codebook.")}
        fresh = new.codebook.state_dict()
        own |= {
            f"codebook.{name}": torch.randn(value.shape, generator=generator)
            for name, value in fresh.items()
        }
    new.load_state_dict(own)
    if mask_lead is not None:
        _lead(new, mask_lead)
    return new


def _lead(model: LocalizationModel, mask_lead: float) -> None:
    if model.slot is None:
        raise ValueError("This model has no mask slot, so nothing can lead: leave out --mask-lead.")
    if not math.isfinite(mask_lead):
        raise ValueError(f"A mask leads by a finite number of nats, not by {mask_lead}.")
    with torch.no_grad():
        model.slot.copy_(model.log_prior.logsumexp(0) + mask_lead)
