"""Whether an error says that memory does not suffice, whoever raised it."""

import re

# torch says so in a RuntimeError, on the CPU and on CUDA in different words.
_WORDS = re.compile("can't allocate memory|out of memory")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that there is not enough memory, of a processor or a device."""
    return isinstance(error, MemoryError) or _WORDS.search(str(error)) is not None
