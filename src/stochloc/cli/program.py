"""The program: one command is parsed and run, and every outcome has an exit code.

Results go to stdout, progress and warnings to stderr. Bad input ends with exit code 2 and one
sentence.
"""

import errno
import io
import shlex
import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr
from typing import Annotated, Any, NoReturn, Union

import tyro

from stochloc.cli.commands import COMMANDS, Command
from stochloc.cli.help_texts import choices_of, flags_of, join_lines
from stochloc.cli.parsing_errors import sentence_of
from stochloc.cli.ranges import refuse_out_of_range
from stochloc.cli.train import Train
from stochloc.cli.unused import refuse_unused
from stochloc.terminal import ReaderGoneError, ResultLostError, guarded, is_first_process


def main(arguments: list[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: The command line after the program's name; `sys.argv` when absent.

    Raises:
        SystemExit: With code 2 after bad input or if results cannot be written, 129 after SIGHUP,
            130 after an interruption, 143 after SIGTERM.
    """
    with guarded(), warnings.catch_warnings():
        if not is_first_process():
            warnings.simplefilter("ignore")
        _obey(arguments)


def _obey(arguments: list[str] | None) -> None:
    command = None
    try:
        command = _parse(arguments)
        refuse_unused(command, sys.argv[1:] if arguments is None else arguments)
        refuse_out_of_range(command)
        _check_seed(getattr(command, "seed", None))
        command.run()
        sys.stdout.flush()
    except ReaderGoneError:
        pass  # The reader, for example `head`, has seen enough.
    except ResultLostError as error:
        _tell_end(f"The results cannot be written to standard output: {error}.")
        raise SystemExit(2) from None
    except (ValueError, OSError) as error:
        _tell_end(_sentence(error), error)
        raise SystemExit(2) from None
    except (MemoryError, RuntimeError) as error:
        from stochloc.tasks.out_of_memory import is_out_of_memory

        if not is_out_of_memory(error):
            _raise_once(error)
        _tell_end(
            "There is not enough memory; ask for fewer or shorter texts, a smaller batch or a "
            "smaller model."
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt as stopped:
        # A training run reports the signal, and that it is saved.
        _tell_end(f"{stopped} {_to_continue(command)}" if str(stopped) else "interrupted.")
        raise SystemExit(getattr(stopped, "exit_code", 130)) from None
    except Exception as error:
        _raise_once(error)


def _parse(arguments: list[str] | None) -> Command:
    # Who names no command is shown which there are.
    words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if words[0] == "--version":
        from stochloc.version import __version__

        print(f"stochloc {__version__}", flush=True)
        raise SystemExit(0)
    if {"-h", "--help"} & set(words) and words[0] in COMMANDS:
        join_lines(COMMANDS[words[0]])
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            command = tyro.cli(
                _chosen_among(COMMANDS),
                prog="stochloc",
                description="Learn, score and generate discrete sequences by stochastic "
                "localization. stochloc --version prints the version.",
                args=words,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as stopped:
        sys.stdout.flush()  # a help page
        if stopped.code:
            named = words[0] if words[0] in COMMANDS else None
            flags = () if named is None else tuple(flags_of(COMMANDS[named]))
            names = {} if named is None else dict(choices_of(COMMANDS[named]))
            _tell_end(sentence_of(told.getvalue(), named, flags, tuple(COMMANDS), names))
        raise
    print(told.getvalue(), end="", file=sys.stderr)
    return command


def _chosen_among(commands: Mapping[str, type[Command]]) -> Any:  # noqa: ANN401
    """Return the type of one of some commands, as tyro reads it."""
    return Union[  # noqa: UP007
        tuple(Annotated[made, tyro.conf.subcommand(name)] for name, made in commands.items())
    ]


def _tell_end(sentence: str, error: Exception | None = None) -> None:
    if _may_tell_end(error):
        print(f"stochloc: {sentence}", file=sys.stderr, flush=True)


def _raise_once(error: Exception) -> NoReturn:
    if _may_tell_end():
        raise error
    raise SystemExit(1) from None


def _may_tell_end(error: Exception | None = None) -> bool:
    if "torch" not in sys.modules:  # too early for several processes
        return True
    from stochloc.training.processes import may_tell_end

    return may_tell_end(error)


def _check_seed(seed: int | None) -> None:
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"--seed must be from 0 to 2^63 - 1, not {seed}.")


def _to_continue(command: object) -> str:
    if isinstance(command, Train):
        again = ("stochloc", "train", "--out", str(command.out), "--resume")
        return f"Continue it with: {shlex.join(again)}"
    return "The same command continues it."


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space or choose another folder" if is_full else "choose another place"
        return f"{error.strerror}{place}; {advice}, then try again."
    return " ".join(str(error).split())
