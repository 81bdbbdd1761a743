"""Settings of the whole test suite."""

import signal

import jaxtyping
import pytest
import torch

# The tensors here are tiny: a second thread would only wait for the first.
torch.set_num_threads(1)

# A shell starts background jobs with Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check types and shapes in every call of the library, but not in bulk.

    The checks cost four times what most small calls cost. Every path, policy, transition, denoiser
    and method meets them in the contract tests; tests that make the same calls thousands of times
    to see a distribution or a limit are marked as bulk.
    """
    is_bulk = item.get_closest_marker("bulk") is not None
    jaxtyping.config.update("jaxtyping_disable", is_bulk)
