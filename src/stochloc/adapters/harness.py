"""The program of the Language Model Evaluation Harness with runs of stochloc among its models.

    stochloc-lm-eval --model stochloc --model_args run=RUN --tasks TASK

takes all arguments of `lm_eval`, which it starts after having registered the model.
"""

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the harness by the command line.

    Raises:
        SystemExit: With code 2 and one sentence after bad input, or where the harness is missing.
    """
    if find_spec("lm_eval") is None:
        _refuse("The harness is not installed: pip install 'stochloc[lm-eval]'.")
    from lm_eval.__main__ import cli_evaluate

    import stochloc.adapters.lm_eval  # noqa: F401  (registers the model)

    try:
        cli_evaluate()
    except ValueError as error:
        _refuse(" ".join(str(error).split()))


def _refuse(sentence: str) -> None:
    print(f"stochloc: {sentence}", file=sys.stderr, flush=True)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
