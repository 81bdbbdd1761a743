"""Reporting the end of a training run once, whichever of its processes ends first."""

from torch import distributed
from torch.distributed import distributed_c10d

from stochloc.terminal import is_first_process

_TOLD = "stochloc/told"


def may_tell_end() -> bool:
    """Return whether this process reports how the work ended; called once, at the end.

    An error that ends one process ends the others, by the same cause or because they lose the
    first. The first to call reports. Processes that do not communicate each report for themselves.

    Returns:
        Whether to report; errors of the other processes are consequences and can be ignored.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return True
    store = distributed_c10d._get_default_store()
    try:
        return store.add(_TOLD, 1) == 1
    except RuntimeError:
        # The store ended with the first process, which has reported.
        return is_first_process()
