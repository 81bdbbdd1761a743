"""A pre-norm transformer with rotary positions and fused attention, bidirectional or causal.

It maps embeddings to embeddings and knows nothing of tokens, noise or time: the denoiser of
localization is independent of the SNR, so there is nothing to condition on. Attention is torch's
own `scaled_dot_product_attention`, which picks a fused kernel on every device.

Shape suffixes: B batch, L length, W width, H heads, D width of a head.
"""

import math

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.nn.backbones.past import Past
from stochloc.nn.backbones.products import rounded_products
from stochloc.nn.backbones.squared_relu import squared_relu
from stochloc.nn.backbones.surroundings import EVERYWHERE, Surroundings


class Transformer(nn.Module):
    """A stack of pre-norm blocks and a final normalisation.

    Args:
        width: Width W of the embeddings, a multiple of `2 * heads`.
        depth: Number of blocks.
        heads: Attention heads per block.
        rotary_base: Ratio of the slowest to the fastest rotation; of the order of the length for
            texts of short range.
        neighbour_logit: Attention logit with which every head begins to look at a neighbour of its
            own; 0 for heads without biases, which begin blind to distance.
        causal: Whether a token sees only itself and those before it.
    """

    leaves_out = False

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        rotary_base: float,
        neighbour_logit: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        assert width % (2 * heads) == 0
        self.head_width, self.rotary_base = width // heads, rotary_base
        self.blocks = nn.ModuleList(
            TransformerBlock(
                width,
                heads,
                neighbour_bias(width, heads, rotary_base, neighbour_logit, causal),
                causal,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, bias=False)
        # Unit variance through every matrix: smaller residual branches learn markedly more slowly.
        for parameter in self.blocks.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))

    def forward(
        self, x_BLW: Float[Tensor, "batch length width"], around: Surroundings = EVERYWHERE
    ) -> Float[Tensor, "..."]:
        """Return one contextual embedding for each token, each looking at all it may see.

        Args:
            x_BLW: Embeddings.
            around: Which places are absent; a causal transformer never meets them.

        Returns:
            Normalised embeddings of the same shape.
        """
        rotation_LD = rotary_angles(x_BLW.shape[1], self.head_width, self.rotary_base, x_BLW.device)
        with rounded_products(x_BLW.device):
            for block in self.blocks:
                x_BLW = block(x_BLW, rotation_LD, around.present)
            return self.norm(x_BLW)

    def extend(
        self, x_BKW: Float[Tensor, "batch more width"], past: list[Past]
    ) -> tuple[Float[Tensor, "batch more width"], list[Past]]:
        """Return the embeddings of the tokens that come next, of a causal transformer.

        Args:
            x_BKW: Embeddings of one token or of several.
            past: What the call for the tokens before returned; empty for the first.

        Returns:
            The normalised embeddings, to rounding those of `forward` at these places, and what is
            to be remembered. Differentiable. Costs these tokens, and attention to those before.
        """
        place = len(past[0]) if past else 0
        angles = rotary_angles(
            x_BKW.shape[1], self.head_width, self.rotary_base, x_BKW.device, place
        )
        remembered = []
        for n, block in enumerate(self.blocks):
            assert isinstance(block, TransformerBlock)
            x_BKW, own = block.extend(x_BKW, angles, past[n] if past else None)
            remembered.append(own)
        return self.norm(x_BKW), remembered


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each added to its input.

    Args:
        width: Width of the embeddings.
        heads: Attention heads.
        qk_bias: What the biases of queries and keys begin with, `(2 W,)`; None for no biases.
        causal: Whether a token sees only itself and those before it.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        qk_bias: Float[Tensor, " values"] | None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.qk_bias = None if qk_bias is None else nn.Parameter(qk_bias)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)

    def forward(
        self,
        x_BLW: Float[Tensor, "batch length width"],
        rotation_LD: Float[Tensor, "length half"],
        present_BL: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Return the embeddings after one block; a place that is not present is not looked at."""
        q_BLHD, k_BLHD, v_BLHD = self._project(x_BLW, rotation_LD)
        if self.causal:
            present_BL = None
        return self._mix(x_BLW, q_BLHD, k_BLHD, v_BLHD, self.causal, present_BL)

    def extend(
        self,
        x_BKW: Float[Tensor, "batch more width"],
        rotation_KD: Float[Tensor, "more half"],
        past: Past | None,
    ) -> tuple[Float[Tensor, "batch more width"], Past]:
        """Return the next tokens' embeddings after a causal block, and what is to be remembered."""
        assert self.causal
        q_BKHD, k_BKHD, v_BKHD = self._project(x_BKW, rotation_KD)
        longer = Past(k_BKHD, v_BKHD) if past is None else past.and_then(k_BKHD, v_BKHD)
        return self._mix(x_BKW, q_BKHD, longer.keys, longer.values, True), longer

    def _project(
        self,
        x_BLW: Float[Tensor, "batch length width"],
        rotation_LD: Float[Tensor, "length half"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        qkv_BLX = self.qkv(self.attention_norm(x_BLW))
        return split_heads(qkv_BLX, self.qk_bias, self.heads, rotation_LD)

    def _mix(
        self,
        x_BLW: Float[Tensor, "batch queries width"],
        q_BLHD: Tensor,
        k_BLHD: Tensor,
        v_BLHD: Tensor,
        is_causal: bool,
        present_BL: Tensor | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        mixed_BLHD = attend(q_BLHD, k_BLHD, v_BLHD, is_causal, present_BL)
        x_BLW = x_BLW + self.attention_out(mixed_BLHD.flatten(2))
        # Squared ReLU learns faster than SiLU or GELU here, at the cost of one more product.
        return x_BLW + self.mlp_out(squared_relu(self.mlp_in(self.mlp_norm(x_BLW))))


def split_heads(
    qkv_BLX: Float[Tensor, "batch length joined"],
    qk_bias: Float[Tensor, " values"] | None,
    heads: int,
    rotation_LD: Float[Tensor, "length half"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries, keys and values of every head, queries and keys turned by position.

    Args:
        qkv_BLX: All queries, then all keys, then all values, `(B, L, 3 W)`.
        qk_bias: Biases of queries and keys, `(2 W,)`; None for none.
        heads: Number of heads, H.
        rotation_LD: Angles as from `rotary_angles`.

    Returns:
        Queries, keys and values, each `(B, L, H, D)`.
    """
    qkv = qkv_BLX.unflatten(-1, (3, heads, -1))
    qk_BLHD, v_BLHD = qkv[:, :, :2], qkv[:, :, 2]
    if qk_bias is not None:
        qk_BLHD = qk_BLHD + qk_bias.unflatten(0, (2, heads, -1))
    q_BLHD, k_BLHD = rotate(qk_BLHD, rotation_LD[:, None, None]).to(v_BLHD).unbind(2)
    return q_BLHD, k_BLHD, v_BLHD


def attend(
    q_BKHD: Float[Tensor, "batch queries heads dim"],
    k_BLHD: Float[Tensor, "batch length heads dim"],
    v_BLHD: Float[Tensor, "batch length heads dim"],
    is_causal: bool,
    present_BL: Bool[Tensor, "batch length"] | None = None,
) -> Float[Tensor, "batch queries heads dim"]:
    """Return the mean of the values, weighted by how well queries and keys agree.

    Args:
        q_BKHD: Queries of the last K of the L places.
        k_BLHD: Keys.
        v_BLHD: Values.
        is_causal: Whether a query sees only the keys up to its own place.
        present_BL: Which keys may be seen, one of each row at least; None for all, as causal
            attention has it, whose absent places lie behind all others.

    Returns:
        The mixed values, in their own type.
    """
    assert present_BL is None or not is_causal
    # The last place sees all there is. A branch, since compiled code of any length needs a bool.
    if q_BKHD.shape[1] == 1:
        is_causal = False
    q_BHKD, k_BHLD, v_BHLD = (x.transpose(1, 2) for x in (q_BKHD, k_BLHD, v_BLHD))
    # In bfloat16 two products and a softmax take CPUs a fifth of the fused kernel's time, and half
    # of what that kernel, then the faster one, takes in float32.
    is_fused = not v_BLHD.is_cpu or v_BLHD.dtype.itemsize >= 4
    mix = _attend_fused if is_fused else _attend_in_two_products
    with torch.autocast(v_BLHD.device.type, enabled=False):
        return mix(q_BHKD, k_BHLD, v_BHLD, is_causal, present_BL).transpose(1, 2)


def _attend_fused(
    q_BHKD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, is_causal: bool, present_BL: Tensor | None
) -> Tensor:
    of_all_places = q_BHKD.shape[2] == k_BHLD.shape[2]
    if present_BL is None and (of_all_places or not is_causal):
        return F.scaled_dot_product_attention(q_BHKD, k_BHLD, v_BHLD, is_causal=is_causal)
    # Torch's own causal mask takes the queries for the first places.
    seen = _seen(q_BHKD, k_BHLD, present_BL)
    return F.scaled_dot_product_attention(q_BHKD, k_BHLD, v_BHLD, attn_mask=seen)


def _attend_in_two_products(
    q_BHKD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, is_causal: bool, present_BL: Tensor | None
) -> Tensor:
    scores_BHKL = (q_BHKD / math.sqrt(q_BHKD.shape[-1])) @ k_BHLD.mT
    if is_causal or present_BL is not None:
        unseen = ~_seen(q_BHKD, k_BHLD, present_BL)
        scores_BHKL = scores_BHKL.masked_fill(unseen, -torch.inf)
    return scores_BHKL.softmax(-1) @ v_BHLD


def _seen(
    q_BHKD: Tensor, k_BHLD: Tensor, present_BL: Tensor | None
) -> Bool[Tensor, "rows #heads #queries length"]:
    """Return which keys are seen: those present, or those up to each of the last K places."""
    if present_BL is not None:
        return present_BL[:, None, None]
    queries, length = q_BHKD.shape[2], k_BHLD.shape[2]
    everywhere = torch.ones(1, 1, queries, length, dtype=torch.bool, device=q_BHKD.device)
    return everywhere.tril(length - queries)


def neighbour_bias(
    width: int, heads: int, rotary_base: float, logit: float, causal: bool = False
) -> Float[Tensor, " values"] | None:
    """Return biases of queries and keys that make each head look at one neighbour.

    A query turned by `s` positions against a key meets it best at the distance `s`. Heads get the
    distances -1, 1, -2, 2, ... in turn, causal ones -1, -2, ... A young network sees letters in
    their context at once, in place of finding out first that neighbours matter, and is far ahead
    after the same training.

    Args:
        width: Width of the embeddings.
        heads: Number of heads.
        rotary_base: Ratio of the slowest to the fastest rotation.
        logit: Attention logit at the neighbour, at least 0; distant tokens get less.
        causal: Whether all neighbours must lie before the token.

    Returns:
        The biases, those of all queries before those of all keys, `(2 W,)`; None for a logit of 0.
    """
    if logit == 0:
        return None
    pairs = width // heads // 2
    both_sides = [h // 2 + 1 if h % 2 else -1 - h // 2 for h in range(heads)]
    # Numbers even where a module gets none: arithmetic without values imports torch's compiler.
    cpu = torch.device("cpu")
    distances = torch.tensor([-1 - h for h in range(heads)] if causal else both_sides, device=cpu)
    rotation = rotary_angles(2, 2 * pairs, rotary_base, cpu)[1]
    # Products of D/2 pairs, each the square of this length, are divided by √D in attention.
    length = math.sqrt(logit * math.sqrt(2 * pairs) / pairs)
    turns = distances[:, None] * rotation
    lengths = torch.full_like(turns, length)
    keys, turned = torch.polar(lengths, torch.zeros_like(turns)), torch.polar(lengths, turns)
    biases = torch.view_as_real(torch.stack([turned, keys])).flatten()
    return biases.to(torch.empty(0).device)


def rotary_angles(
    length: int, head_width: int, base: float, device: torch.device, first: int = 0
) -> Float[Tensor, "length half"]:
    """Return the angle by which each pair of coordinates turns at each position.

    Args:
        length: Number of positions.
        head_width: Width of a head, even.
        base: Ratio of the slowest to the fastest rotation.
        device: Where to put the result.
        first: The first position, at least 0.

    Returns:
        Angles in radians, float32, `(length, head_width / 2)`.
    """
    exponents = torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width
    places = torch.arange(first, first + length, device=device, dtype=torch.float32)
    return torch.outer(places, base**-exponents)


def rotate(
    x: Float[Tensor, "*batch width"], angles: Float[Tensor, "*rows half"]
) -> Float[Tensor, "*batch width"]:
    """Turn neighbouring pairs of coordinates by the given angles (rotary positions).

    Args:
        x: Queries or keys.
        angles: Radians, broadcast against the pairs of `x`.

    Returns:
        The turned vectors, in float32.
    """
    pairs = x.float().unflatten(-1, (-1, 2))
    # Neither MPS nor torch's compiler multiplies complex numbers.
    if x.is_mps or torch.compiler.is_compiling():
        a, b = pairs.unbind(-1)
        cos, sin = angles.cos(), angles.sin()
        return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    # One complex product makes one pass over memory where four real ones make seven.
    turn: Complex[Tensor, "*rows half"] = torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * turn).flatten(-2)
