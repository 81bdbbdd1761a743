"""Numbers of settings that are too small."""


def check_least(*numbers: tuple[str, int, int]) -> None:
    """Refuse the first number that is too small.

    Args:
        numbers: What each is, in words; the number; and the least that makes sense.

    Raises:
        ValueError: One is smaller than that; the message says which.
    """
    for name, value, least in numbers:
        if value < least:
            raise ValueError(f"The {name} must be at least {least}, not {value}.")
