"""A model as tensors that a few lines of any framework can use, without this package.

Every backbone becomes ordinary pre-norm stacks: norms with scale and shift, linear maps with bias,
rotary positions. What is special about one is written out or multiplied in: biases of queries and
keys, the modulation and the gates of a DiT, zeros where there is no bias. A mask slot is one more
key, at the origin, with its score as prior. With z the noisy codes and `known` the known tokens,

    inputs = W[known] where a token is known, softmax(β z Keysᵀ + prior) W elsewhere
    logits = [evidence] z Keysᵀ + head · hidden + bias

Tensors: `keys`, `prior`, `beta`, `embeddings` (W), `head.{weight,bias}`, and of every stack S (one
of `depth`'s) `S.norm` and `S.N.{attention_norm, qkv, attention_out, mlp_norm, mlp_in, mlp_out}`,
each with weight and bias; of two sides also `starts` and `join.{mlp_in, mlp_out, norm}`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.nn.backbones.dit import DiffusionBlock, DiffusionTransformer
from stochloc.nn.backbones.encoder import Transformer, TransformerBlock
from stochloc.nn.backbones.two_sided import TwoSidedTransformer
from stochloc.nn.model import LocalizationModel

Tensors = dict[str, Tensor]
SQUARED_RELU, TANH_GELU = "squared ReLU", "GELU by tanh"


@dataclass(frozen=True, eq=False)
class Plain:
    """A model written out.

    Attributes:
        tensors: By name, in the type of the model's weights.
        facts: What the tensors do not say, as JSON values: `vocabulary_size`, `code_dimension`,
            `heads`, `rotary_base`, `activation`, `depth` of every stack, `evidence`, and
            `two_sided`, where stacks are causal and their inputs shifted by a place.
    """

    tensors: Tensors
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Stacks:
    """A backbone written out.

    Attributes:
        tensors: By name.
        depth: Number of blocks of every stack.
        activation: The perceptrons' activation.
        two_sided: Whether there is a stack for each side, both causal, and a join.
    """

    tensors: Tensors
    depth: dict[str, int]
    activation: str
    two_sided: bool = False


def plain(model: LocalizationModel) -> Plain:
    """Return a model as plain tensors; its logits stay the same to rounding.

    Args:
        model: The model.

    Returns:
        New tensors, in memory of their own and on the CPU, and what describes them.

    Raises:
        ValueError: Its places have coordinates, or its backbone has no plain form.
    """
    config = model.config
    if config.places:
        raise ValueError(
            f"A model whose places have coordinates ({config.positions}) has no plain form; only "
            "rotary positions have one. Its run can be pushed and opened as it is."
        )
    form = _FORMS.get(type(model.transformer))
    if form is None:
        raise ValueError(
            f"A network of the kind {config.architecture} has no plain form; its run can be pushed "
            "and opened as it is."
        )
    stacks = form(model.transformer)
    keys, prior = model.codebook.vectors, model.log_prior
    if model.slot is not None:
        keys, prior = F.pad(keys, (0, 0, 0, 1)), torch.cat([prior, model.slot.to(prior)])
    bias = model.log_prior if model.bias is None else model.log_prior + model.bias
    own = {
        "keys": keys,
        "prior": prior,
        "beta": model.beta,
        "embeddings": model.embeddings,
        "head.weight": model.head,
        "head.bias": bias,
    }
    tensors = {
        name: tensor.detach().to("cpu", model.head.dtype, copy=True).contiguous()
        for name, tensor in {**own, **stacks.tensors}.items()
    }
    facts = {
        "vocabulary_size": config.vocabulary_size,
        "code_dimension": model.codebook.dimension,
        "heads": config.heads,
        "rotary_base": config.rotary_base,
        "activation": stacks.activation,
        "depth": stacks.depth,
        "evidence": config.evidence,
        "two_sided": stacks.two_sided,
    }
    return Plain(tensors, facts)


def _encoder(network: Transformer) -> _Stacks:
    return _Stacks(_stack("stack", network), {"stack": len(network.blocks)}, SQUARED_RELU)


def _two_sided(network: TwoSidedTransformer) -> _Stacks:
    sides = {"left": network.left, "right": network.right}
    join = network.join
    tensors = {
        "starts": network.starts,
        **_linear("join.mlp_in", join.mlp_in.weight),
        **_linear("join.mlp_out", join.mlp_out.weight),
        **_linear("join.norm", join.norm.weight),
    }
    for name, side in sides.items():
        tensors |= _stack(name, side)
    depth = {name: len(side.blocks) for name, side in sides.items()}
    return _Stacks(tensors, depth, SQUARED_RELU, two_sided=True)


def _dit(network: DiffusionTransformer) -> _Stacks:
    tensors = _modulated("stack.norm", network.norm.weight, *network.modulation.chunk(2))
    for n, block in enumerate(network.blocks):
        assert isinstance(block, DiffusionBlock)
        name = f"stack.{n}"
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.modulation.chunk(6)
        tensors |= {
            **_modulated(f"{name}.attention_norm", block.attention_norm.weight, shift_1, scale_1),
            **_queries(name, block.qkv, block.qk_bias),
            **_linear(f"{name}.attention_out", gate_1[:, None] * block.attention_out.weight),
            **_modulated(f"{name}.mlp_norm", block.mlp_norm.weight, shift_2, scale_2),
            **_linear(f"{name}.mlp_in", block.mlp_in.weight, block.mlp_in.bias),
            **_linear(
                f"{name}.mlp_out",
                gate_2[:, None] * block.mlp_out.weight,
                gate_2 * block.mlp_out.bias,
            ),
        }
    return _Stacks(tensors, {"stack": len(network.blocks)}, TANH_GELU)


_FORMS: dict[type, Callable[[Any], _Stacks]] = {
    Transformer: _encoder,
    TwoSidedTransformer: _two_sided,
    DiffusionTransformer: _dit,
}


def _stack(name: str, network: Transformer) -> Tensors:
    tensors = _linear(f"{name}.norm", network.norm.weight)
    for n, block in enumerate(network.blocks):
        here = f"{name}.{n}"
        assert isinstance(block, TransformerBlock)
        tensors |= _queries(here, block.qkv, block.qk_bias)
        for part in ("attention_norm", "attention_out", "mlp_norm", "mlp_in", "mlp_out"):
            tensors |= _linear(f"{here}.{part}", block.get_parameter(f"{part}.weight"))
    return tensors


def _queries(name: str, qkv: nn.Linear, qk_bias: Tensor | None) -> Tensors:
    """Return the map to queries, keys and values, the values without a bias."""
    bias = None if qk_bias is None else F.pad(qk_bias, (0, len(qkv.weight) - len(qk_bias)))
    return _linear(f"{name}.qkv", qkv.weight, bias)


def _modulated(name: str, weight: Tensor, shift: Tensor, scale: Tensor) -> Tensors:
    """Return a norm that is shifted and scaled afterwards, as one with weight and bias."""
    return _linear(name, weight * (1 + scale), shift)


def _linear(name: str, weight: Tensor, bias: Tensor | None = None) -> Tensors:
    """Return a weight and its bias, zeros where there is none: one for every row."""
    given = weight.new_zeros(len(weight)) if bias is None else bias
    return {f"{name}.weight": weight, f"{name}.bias": given}
