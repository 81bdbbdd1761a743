"""Configurations read from files: every value is of the type that its attribute declares."""

from dataclasses import fields
from typing import Any, get_origin, get_type_hints

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check_types(config: Any) -> None:  # noqa: ANN401
    """Refuse a dataclass with a value of another type than declared.

    Args:
        config: An instance; attributes with parametrised types are not looked at.

    Raises:
        ValueError: A value is of another type; whole numbers count as numbers, booleans do not.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        declared, value = hints[field.name], getattr(config, field.name)
        if get_origin(declared) is not None:
            continue
        allowed = (int, float) if declared is float else declared
        is_hidden_bool = isinstance(value, bool) and declared in (int, float)
        if is_hidden_bool or not isinstance(value, allowed):
            wanted = NAMES.get(declared, f"a {declared.__name__}")
            raise ValueError(f"The {field.name} must be {wanted}, not {str(value)[:40]!r}.")
