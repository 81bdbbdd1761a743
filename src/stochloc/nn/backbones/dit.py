"""The diffusion transformer of the masked-diffusion literature (DiT), with its time held fixed.

A pre-norm transformer in which every normalisation is followed by a shift and a scale, and every
branch by a gate (adaptive layer norm; Peebles and Xie 2023, Scalable diffusion models with
transformers; Sahoo et al. 2024, MDLM):

    x ← x + gate_1 · attention((1 + scale_1) norm(x) + shift_1)
    x ← x + gate_2 · MLP((1 + scale_2) norm(x) + shift_2)
    hidden = (1 + scale) norm(x) + shift

There shift, scale and gate are linear in an embedding of the time. Our denoisers see no time, and
MDLM is given 0 always; a linear map of a constant is a constant, so here they are weights. The MLP
has biases and a GELU, in its approximation by tanh. Gates begin at 1, where that literature begins
at 0, so that every branch learns from the first update.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.nn.backbones.base import Backbone
from stochloc.nn.backbones.encoder import (
    attend,
    neighbour_bias,
    rotary_angles,
    split_heads,
)
from stochloc.nn.backbones.products import rounded_products
from stochloc.nn.backbones.surroundings import EVERYWHERE, Surroundings


class DiffusionTransformer(nn.Module):
    """A stack of blocks with adaptive layer norm at a fixed time, each token looking at all.

    Args:
        size: Width, depth, heads and positions.
    """

    leaves_out = False

    def __init__(self, size: Backbone) -> None:
        super().__init__()
        self.head_width, self.rotary_base = size.width // size.heads, size.rotary_base
        self.blocks = nn.ModuleList(DiffusionBlock(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, bias=False)
        self.modulation = nn.Parameter(torch.zeros(2 * size.width))
        for parameter in self.blocks.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))

    def forward(
        self, x_BLW: Float[Tensor, "batch length width"], around: Surroundings = EVERYWHERE
    ) -> Float[Tensor, "batch length width"]:
        """Return one contextual embedding for each token.

        Args:
            x_BLW: Embeddings.
            around: Which places are absent.

        Returns:
            Embeddings of the same shape, normalised and then shifted and scaled; a network that
            was not trained does neither.
        """
        rotation_LD = rotary_angles(x_BLW.shape[1], self.head_width, self.rotary_base, x_BLW.device)
        with rounded_products(x_BLW.device):
            for block in self.blocks:
                x_BLW = block(x_BLW, rotation_LD, around.present)
            return _modulated(self.norm(x_BLW), *self.modulation.chunk(2))


class DiffusionBlock(nn.Module):
    """Attention and a two-layer perceptron, each shifted and scaled before and gated after.

    Args:
        size: Width, heads and positions.

    Attributes:
        modulation: Shift, scale and gate of the attention, then of the perceptron, `(6 W,)`.
    """

    def __init__(self, size: Backbone) -> None:
        super().__init__()
        width = size.width
        self.heads = size.heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        bias = neighbour_bias(width, size.heads, size.rotary_base, size.neighbour_logit)
        self.qk_bias = None if bias is None else nn.Parameter(bias)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)
        nn.init.zeros_(self.mlp_in.bias)
        nn.init.zeros_(self.mlp_out.bias)
        start = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 1.0])
        # A vector, as the scales of norms are, so that no optimizer decays it towards 0.
        self.modulation = nn.Parameter(start.repeat_interleave(width))

    def forward(
        self,
        x_BLW: Float[Tensor, "batch length width"],
        rotation_LD: Float[Tensor, "length half"],
        present_BL: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Return the embeddings after one block; a place that is not present is not looked at."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation.chunk(6)
        qkv_BLX = self.qkv(_modulated(self.attention_norm(x_BLW), shift_1, scale_1))
        q_BLHD, k_BLHD, v_BLHD = split_heads(qkv_BLX, self.qk_bias, self.heads, rotation_LD)
        mixed_BLHD = attend(q_BLHD, k_BLHD, v_BLHD, False, present_BL)
        x_BLW = x_BLW + gate_1 * self.attention_out(mixed_BLHD.flatten(2))
        inner = F.gelu(
            self.mlp_in(_modulated(self.mlp_norm(x_BLW), shift_2, scale_2)), approximate="tanh"
        )
        return x_BLW + gate_2 * self.mlp_out(inner)


def _modulated(x_BLW: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x_BLW * (1 + scale) + shift
