"""In which type training multiplies: the transformer's products alone, in one process or in many.

| precision | weights, moments of the optimiser | products of the transformer |
|---|---|---|
| 32-true | float32 | float32 |
| bf16-mixed | float32 | bfloat16 |
| 16-mixed | float32 | float16, the loss scaled so that small gradients do not vanish |
| bf16-true | bfloat16 | bfloat16 |

A product is one with learned matrices (the converter's, the blocks', the head's) or one of
attention. All else is float32 in every precision: γ and noise, codes and evidence, logits, the
loss, the average of the weights, and the held-out bound. Fabric's own plugins would also round what
a module is given, γ among it, where processes share the work and not where there is one.

Which one is faster depends on the processor: CPUs without float16 units take many times as long
for 16-mixed as for 32-true, those that know bfloat16 half as long for bf16-mixed.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, final

from lightning_fabric.plugins import FSDPPrecision, HalfPrecision, MixedPrecision, Precision

PrecisionName = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]


def precision_plugin(precision: PrecisionName, accelerator: str, is_sharded: bool) -> Precision:
    """Return how a Fabric computes in a precision.

    Args:
        precision: Its name.
        accelerator: "cpu", "cuda" or "mps".
        is_sharded: Whether FSDP shards the module; it rounds inputs by rules of its own.

    Returns:
        The plugin.

    Raises:
        ValueError: There is no such precision.
    """
    if is_sharded:
        return FSDPPrecision(precision)
    match precision:
        case "32-true":
            return Precision()
        case "bf16-true":
            return HalfWeights("bf16-true")
        case "bf16-mixed" | "16-mixed":
            return HalfProducts(precision, accelerator)
    raise ValueError(f"There is no precision {precision!r}.")


@final
class HalfProducts(MixedPrecision):
    """Products in half precision by autocast; what goes in and out of the module is left alone."""

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401
        """Return what the module is given as it is."""
        return data

    def convert_output(self, data: Any) -> Any:  # noqa: ANN401
        """Return what the module answers as it is."""
        return data


@final
class HalfWeights(HalfPrecision):
    """Weights in bfloat16; what else there is keeps its type, and so does torch's default."""

    def forward_context(self) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401
        """Return what the module is given as it is."""
        return data

    def convert_output(self, data: Any) -> Any:  # noqa: ANN401
        """Return what the module answers as it is."""
        return data
