"""MDLM's network written a second time, from the description of its layout, in float64 or 32."""

import torch

V, ALPHABET, MASK = 5, " abcd", 5


def random_checkpoint(width=16, depth=2, heads=2, condition=7, waves=10, seed=0):
    """Every tensor of the layout with random values, all of which matter."""
    shapes = {
        "vocab_embed.embedding": (V + 1, width),
        "sigma_map.mlp.0.weight": (condition, waves),
        "sigma_map.mlp.0.bias": (condition,),
        "sigma_map.mlp.2.weight": (condition, condition),
        "sigma_map.mlp.2.bias": (condition,),
        "output_layer.norm_final.weight": (width,),
        "output_layer.linear.weight": (V + 1, width),
        "output_layer.linear.bias": (V + 1,),
        "output_layer.adaLN_modulation.weight": (2 * width, condition),
        "output_layer.adaLN_modulation.bias": (2 * width,),
    }
    for n in range(depth):
        for name, shape in {
            "norm1.weight": (width,),
            "attn_qkv.weight": (3 * width, width),
            "attn_out.weight": (width, width),
            "norm2.weight": (width,),
            "mlp.0.weight": (4 * width, width),
            "mlp.0.bias": (4 * width,),
            "mlp.2.weight": (width, 4 * width),
            "mlp.2.bias": (width,),
            "adaLN_modulation.weight": (6 * width, condition),
            "adaLN_modulation.bias": (6 * width,),
        }.items():
            shapes[f"blocks.{n}.{name}"] = shape
    generator = torch.Generator().manual_seed(seed)
    weights = {
        # Of a size at which no branch drowns the others.
        f"backbone.{name}": torch.randn(shape, generator=generator) / shape[-1] ** (len(shape) / 4)
        for name, shape in shapes.items()
    }
    half = width // heads // 2
    weights["backbone.rotary_emb.inv_freq"] = 10_000.0 ** -(torch.arange(half) / half)
    return weights


def reference_logits(weights, tokens, heads):
    """Logits of all V + 1 rows for tokens in which `MASK` is the mask, at σ = 0."""
    w = {name.removeprefix("backbone."): value for name, value in weights.items()}
    waves = w["sigma_map.mlp.0.weight"].shape[1]
    time = torch.cat([torch.zeros(waves // 2).cos(), torch.zeros(waves - waves // 2).sin()])
    inner = _silu(w["sigma_map.mlp.0.weight"] @ time + w["sigma_map.mlp.0.bias"])
    c = _silu(w["sigma_map.mlp.2.weight"] @ inner + w["sigma_map.mlp.2.bias"])

    def modulation(part, count):
        both = w[f"{part}.adaLN_modulation.weight"] @ c + w[f"{part}.adaLN_modulation.bias"]
        return both.reshape(count, -1)

    x = torch.stack([w["vocab_embed.embedding"][row] for row in tokens])
    depth = sum(name.endswith("attn_out.weight") for name in w)
    for n in range(depth):
        part = f"blocks.{n}"
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation(part, 6)
        y = _norm(x, w[f"{part}.norm1.weight"]) * (1 + scale_a) + shift_a
        y = _attention(y, w[f"{part}.attn_qkv.weight"], heads) @ w[f"{part}.attn_out.weight"].T
        x = x + gate_a * y
        y = _norm(x, w[f"{part}.norm2.weight"]) * (1 + scale_m) + shift_m
        y = _gelu(y @ w[f"{part}.mlp.0.weight"].T + w[f"{part}.mlp.0.bias"])
        x = x + gate_m * (y @ w[f"{part}.mlp.2.weight"].T + w[f"{part}.mlp.2.bias"])
    shift, scale = modulation("output_layer", 2)
    y = _norm(x, w["output_layer.norm_final.weight"]) * (1 + scale) + shift
    return y @ w["output_layer.linear.weight"].T + w["output_layer.linear.bias"]


def _silu(x):
    return x / (1 + torch.exp(-x))


def _gelu(x):
    return x / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


def _norm(x, weight):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def _attention(x, qkv, heads):
    width = x.shape[-1]
    outputs = []
    for h in range(heads):
        rows = slice(h * width // heads, (h + 1) * width // heads)
        q, k, v = (x @ qkv[n * width : (n + 1) * width][rows].T for n in range(3))
        scores = _turned(q) @ _turned(k).transpose(1, 2) / (width / heads) ** 0.5
        outputs.append(torch.softmax(scores, -1) @ v)
    return torch.cat(outputs, -1)


def _turned(x):
    """Coordinate j of the first half and of the second are turned together."""
    half = x.shape[-1] // 2
    angles = torch.outer(torch.arange(x.shape[1]), 10_000.0 ** -(torch.arange(half) / half))
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)
