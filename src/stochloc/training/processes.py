"""How several processes that train one model tell a person how it ended: once."""

from torch import distributed
from torch.distributed import distributed_c10d

from stochloc.terminal import is_first_process

_TOLD = "stochloc/told"


def may_tell_end() -> bool:
    """Return whether this process is the one to tell how the work ended; ask once, at the end.

    What ends one process ends the others, by the same fault or because they miss the first one.
    The first to ask tells. Processes that do not talk to each other each tell for themselves.

    Returns:
        Whether to tell; what a process that may not tell met with is of no interest.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return True
    store = distributed_c10d._get_default_store()
    try:
        return store.add(_TOLD, 1) == 1
    except RuntimeError:
        # The store is gone with the first process, and that has told.
        return is_first_process()
