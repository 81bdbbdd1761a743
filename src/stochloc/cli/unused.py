"""Flags that another flag leaves without effect: whoever gives such a flag is told, not ignored.

A command, or a group of its options, says for its present values which flags do nothing and why;
the program compares that with what was typed. A flag does nothing where its value is not looked at.
Where it is, but any value gives the same numbers (the seed of a walk that draws nothing), it is
part of the description of what was done, and of the report.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

# A flag, and what leaves it without effect: "with --continuous", "without --walk".
Unused = Mapping[str, str]


@runtime_checkable
class WithUnused(Protocol):
    """Options of which some may have no effect."""

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values, and why."""
        ...


def refuse_unused(command: object, arguments: Sequence[str]) -> None:
    """Refuse a flag that was typed and has no effect.

    Args:
        command: The command, as it was parsed.
        arguments: What was typed.

    Raises:
        ValueError: There is one.
    """
    if not isinstance(command, WithUnused):
        return
    typed = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    for flag, why in command.unused().items():
        if flag in typed:
            raise ValueError(f"{flag} has no effect {why}.")


def unused_shares(valid: object, test: object) -> Unused:
    """Return whether --fractions has no effect.

    Args:
        valid: What the user gave for --valid.
        test: What the user gave for --test.

    Returns:
        The flag, if no part is cut from --data.
    """
    whole = valid is not None and test is not None
    return {"--fractions": "with both --valid and --test"} if whole else {}


def unused_path(policy: str) -> Unused:
    """Return whether --path has no effect.

    Args:
        policy: What the user gave for --policy.

    Returns:
        The flag, unless the policy follows a path.
    """
    return {} if policy.partition(":")[0] == "path" else {"--path": f"with --policy {policy}"}
