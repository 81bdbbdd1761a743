"""The results of a comparison, one row per method, as Markdown, CSV and JSON."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from stochloc.methods import METHODS
from stochloc.tasks.compare.judge import JudgeScore
from stochloc.tasks.compare.result import Result
from stochloc.training.checkpoint import replacing
from stochloc.training.records import to_json

LEGEND = """
≤: an upper bound. left to right: exact bits per character read in that direction, of methods that
give them in one call. ±: one standard error over blocks of text windows; in the column of seeds,
over seeds. update / ar: processor time of an update relative to the autoregressive model. calls:
network calls for a batch of samples at the largest number of steps. judge: cross-entropy of samples
under an n-gram model of the test text, in bits per token; entropy: of the tokens within a sample,
in bits per token; both for the first seed."""
OUTDATED = "†: a trial of an earlier revision of the method; name the method to run it again."


@dataclass(frozen=True)
class Row:
    """A row of the table: a method's results over its seeds.

    Attributes:
        method: Name of the method.
        learning_rate: The chosen learning rate.
        bits: Bits per character of the test text, averaged over seeds.
        stderr: Standard error over blocks of text windows, averaged over seeds.
        seed_stderr: Standard error over the seeds; NaN for one seed.
        seeds: Number of seeds.
        is_exact: Whether `bits` is the exact likelihood rather than a bound.
        left_to_right: Exact bits per character of the text read from left to right, averaged over
            seeds; NaN for methods that do not give it in one call, and for trials from before it
            was measured.
        left_to_right_stderr: Its standard error over blocks of text windows, averaged over seeds.
        parameters: Number of learned parameters.
        updates: Training updates, averaged over seeds.
        seconds: Training time, averaged over seeds.
        relative_cost: Processor time of an update relative to the reference method; NaN without it.
        revision: Revision of the method's code, the earliest of its trials.
        samples: Sample quality at each number of steps, for the first seed.
        curve: Validation bounds during training, for the first seed.
    """

    method: str
    learning_rate: float
    bits: float
    stderr: float
    seed_stderr: float
    seeds: int
    is_exact: bool
    left_to_right: float
    left_to_right_stderr: float
    parameters: int
    updates: float
    seconds: float
    relative_cost: float
    revision: int
    samples: list[dict[str, Any]]
    curve: list[dict[str, Any]]

    @property
    def is_outdated(self) -> bool:
        """Whether the method has changed since its trials."""
        return self.revision < METHODS[self.method].revision

    @property
    def directed(self) -> str:
        """The exact bits from left to right as text; empty if they are not known."""
        if math.isnan(self.left_to_right):
            return ""
        return f"{self.left_to_right:.3f} ± {self.left_to_right_stderr:.3f}"


def make_row(results: Sequence[Result], reference_s: float) -> Row:
    """Return the row of one method.

    Args:
        results: Its full trials, the first seed first; none diverged.
        reference_s: Processor time of an update of the reference method, in seconds.

    Returns:
        The row.
    """
    bits = [result["bits_per_character"] for result in results]
    first, training = results[0], results[0]["trial"]["training"]
    directed = [result.get("left_to_right") or {} for result in results]
    return Row(
        first["trial"]["method"],
        training["learning_rate"],
        mean(bits),
        mean(result["stderr"] for result in results),
        stdev(bits) / math.sqrt(len(bits)) if len(bits) > 1 else math.nan,
        len(bits),
        first["is_exact"],
        mean(one.get("bits_per_character", math.nan) for one in directed),
        mean(one.get("stderr", math.nan) for one in directed),
        first["parameters"],
        float(mean(result["updates"] for result in results)),
        mean(result["seconds"] for result in results),
        mean(result["cpu_seconds_per_update"] for result in results) / reference_s,
        min(result["trial"]["method_revision"] for result in results),
        first["samples"],
        first["curve"],
    )


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        text: Score of the validation text under the judge, which is fitted to the test text.
        tokens_per_character: Tokens per character of validation text.
        settings: Settings shared by all trials.
        rows: One row per method, lowest bits per character first.
        missing: Methods whose training diverged or is not finished.
        diverged: Diverged trials at the chosen learning rate; averages exclude them.
    """

    text: JudgeScore
    tokens_per_character: float
    settings: dict[str, Any]
    rows: list[Row]
    missing: list[str]
    diverged: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "settings": self.settings,
            "tokens_per_character": self.tokens_per_character,
            "methods": [
                {key: None if value != value else value for key, value in vars(row).items()}
                for row in self.rows
            ],
            "missing": self.missing,
            "diverged": self.diverged,
            "text": {"judged": self.text.judged, "entropy": self.text.entropy},
        }

    def table(self) -> str:
        """Return the table as Markdown."""
        lines = [
            "| method | bits per character | left to right | seeds | learning rate | parameters "
            "| updates | training s | update / ar | calls | s per sample | judge | entropy |",
            "|" + "---|" * 13,
        ]
        for row in self.rows:
            sample = row.samples[-1]
            sign, spread = "" if row.is_exact else "≤ ", f"{row.bits:.3f} ± {row.stderr:.3f}"
            seeds = "1" if row.seeds == 1 else f"{row.seeds} (± {row.seed_stderr:.3f})"
            name = f"{row.method} †" if row.is_outdated else row.method
            cells = (
                name, sign + spread, row.directed, seeds, f"{row.learning_rate:g}",
                f"{row.parameters:,}", f"{row.updates:.0f}", f"{row.seconds:.0f}",
                f"{row.relative_cost:.2f}",
                sample["denoiser_calls"], f"{sample['seconds_per_sample']:.2f}",
                f"{sample['judged']:.2f} ± {sample['judged_stderr']:.2f}",
                f"{sample['entropy']:.2f} ± {sample['entropy_stderr']:.2f}",
            )  # fmt: skip
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        judged, entropy = self.text.judged, self.text.entropy
        lines.append(
            f"\nThe validation text itself: judge {judged.mean:.2f} ± "
            f"{judged.stderr:.2f}, entropy {entropy.mean:.2f} ± {entropy.stderr:.2f} bits per "
            "token."
        )
        lines.append(LEGEND)
        lines += [OUTDATED] * any(row.is_outdated for row in self.rows)
        lines += [f"{name}: not finished, or training diverged." for name in self.missing]
        lines += [f"{trial}: training diverged; averages exclude it." for trial in self.diverged]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `table.md`, `table.csv` and `comparison.json`.

        Args:
            folder: Where to write them.
        """
        with replacing(folder / "table.md") as path:
            path.write_text(self.table() + "\n", encoding="utf-8")
        with replacing(folder / "comparison.json") as path:
            path.write_text(to_json(self.to_dict(), indent=2), encoding="utf-8")
        with replacing(folder / "table.csv") as path, path.open("w", newline="") as file:
            plain = [name for name in vars(self.rows[0]) if name not in ("samples", "curve")]
            sampled = [name for name in self.rows[0].samples[0] if name != "texts"]
            writer = csv.writer(file)
            writer.writerow([*plain, *sampled])
            for row in self.rows:
                for sample in row.samples:
                    left = [getattr(row, name) for name in plain]
                    writer.writerow([*left, *(sample[name] for name in sampled)])
