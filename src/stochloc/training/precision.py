"""The precision of the transformer's products in training, in one process or many.

| precision | weights, moments of the optimiser | products of the transformer |
|---|---|---|
| 32-true | float32 | float32 |
| bf16-mixed | float32 | bfloat16 |
| 16-mixed | float32 | float16, the loss scaled so that small gradients do not vanish |
| bf16-true | bfloat16 | bfloat16 |

An update asks its engine (`update.Engine.autocast`) in which type products are taken: a Fabric
answers with the plugins below, and `OneProcess`, in which methods are compared, with
`half_products`, which leaves the matrices around the transformer in float32.

A product is one with learned matrices (the converter's, the blocks', the head's) or one of
attention. Everything else is float32 in every precision: γ and noise, codes and evidence, logits,
the loss, the average of the weights, and the held-out bound. Fabric's own plugins would also round
a module's inputs, γ among them, but only where several processes share the work.

Which one is faster depends on the processor: CPUs without float16 units take many times as long for
16-mixed as for 32-true; those with units for bfloat16 matrices (AMX) take half as long for
bf16-mixed, those with bfloat16 vectors alone take longer.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import torch
from lightning_fabric.plugins import HalfPrecision, MixedPrecision, Precision

from stochloc.training.execution import PrecisionName


def precision_plugin(precision: PrecisionName, accelerator: str) -> Precision:
    """Return the Fabric plugin of a precision.

    Args:
        precision: Its name.
        accelerator: "cpu", "cuda" or "mps".

    Returns:
        The plugin.

    Raises:
        ValueError: There is no such precision.
    """
    match precision:
        case "32-true":
            return Precision()
        case "bf16-true":
            return HalfWeights("bf16-true")
        case "bf16-mixed" | "16-mixed":
            return HalfProducts(precision, accelerator)
    raise ValueError(f"There is no precision {precision!r}.")


def unscales_for_one_kernel(precision: Precision) -> bool:
    """Return whether gradients of scaled losses can be clipped before an optimizer of one kernel.

    Args:
        precision: The plugin in use.

    Returns:
        True of this module's own; Fabric's refuse such optimizers.
    """
    return isinstance(precision, HalfProducts)


@final
class HalfProducts(MixedPrecision):
    """Products in half precision by autocast; inputs and outputs of the module are unchanged."""

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401
        """Return the module's inputs unchanged."""
        return data

    def convert_output(self, data: Any) -> Any:  # noqa: ANN401
        """Return the module's outputs unchanged."""
        return data

    def unscale_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo the scale of the loss, before clipping, for optimizers of one kernel too.

        Fabric's own refuses those. The scaler knows that it has been done, tells the kernel which
        updates to skip, and waits for no device.
        """
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)


@final
class HalfWeights(HalfPrecision):
    """Weights in bfloat16; all other types, and torch's default type, are unchanged."""

    def forward_context(self) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401
        """Return the module's inputs unchanged."""
        return data

    def convert_output(self, data: Any) -> Any:  # noqa: ANN401
        """Return the module's outputs unchanged."""
        return data
