"""Settings of the whole test suite."""

import torch

# The tensors here are tiny: a second thread would only wait for the first.
torch.set_num_threads(1)
