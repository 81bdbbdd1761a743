"""Settings of the whole test suite."""

import signal

import torch

# The tensors here are tiny: a second thread would only wait for the first.
torch.set_num_threads(1)

# A shell starts background jobs with Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
