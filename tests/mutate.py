"""Break the mathematics on purpose and show that the tests notice: `python tests/mutate.py`.

Each mutation replaces one text in a temporary copy of the repository and runs the tests of its
room until the first failure. A mutation that no test kills is a hole in the suite; one whose text
is gone is an error, so this list cannot rot. Arguments choose mutations by a word of their names:
`python tests/mutate.py half bridge`. A survivor takes two minutes, most others take seconds. The
exit code is 1 if any survives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Name: file, text, replacement.
MUTATIONS = {
    "acceptance of a draft": ("core/speculation.py", "(u < gain.exp())", "(u < 1)"),
    "redrawing the rest": ("core/speculation.py", "(p - q).clamp(min=0)", "p"),
    "turn of an order": ("core/chain_rule.py", "number[:-2] + 2", "number[:-2] + 3"),
    "side of a run": ("core/chain_rule.py", "before | (now & ~rises)", "before | now"),
    "places after a token": (
        "core/denoisers/exact.py",
        "after[:, 1:], (0, 0, 0, 1)",
        "after[:, :-1], (0, 0, 1, 0)",
    ),
    "half of Euler's cost": ("core/transitions.py", "moving = 0.5 * torch", "moving = 1.0 * torch"),
    "half of the line integral": ("core/likelihood.py", "(0.5 * point.speed", "(1.0 * point.speed"),
    "sign of the drift": ("core/channel.py", "state.z + step * drift", "state.z - step * drift"),
    "root of the step": ("core/channel.py", "step.sqrt() * noise", "step * noise"),
    "variance of the bridge": ("core/channel.py", "rise * (1 - share)", "rise * (1 + share)"),
    "mean of the bridge": (
        "core/channel.py",
        "share[..., None] * (state.z - floor.z)",
        "state.z - floor.z",
    ),
    "rate of masked jumps": ("core/paths/orders.py", "unknown * rate.to(zero)", "unknown.to(zero)"),
    "log-mgf of the ancestral": (
        "core/denoisers/dense.py",
        "self.log_probs + (evidence - own)",
        "self.log_probs + evidence",
    ),
    "end of a path": (
        "core/likelihood.py",
        "nats - in_double(end.log_prob(tokens))",
        "nats",
    ),
    "Euler follows the mean": ("core/transitions.py", "state, posterior.mean,", "state, state.z,"),
    "evidence": (
        "core/denoisers/exact.py",
        "_agreeing(state.z.flatten(1) @ codes.T",
        "_agreeing(0.9 * state.z.flatten(1) @ codes.T",
    ),
    "prior": ("core/denoisers/exact.py", "(self.log_prior + evidence)", "evidence"),
    "level of the place in turn": (
        "core/memory.py",
        "drawn.gather(-1, places[:, n : n + 1])",
        "drawn[:, n : n + 1]",
    ),
    "given tokens are certain": (
        "core/memory.py",
        "answer.observed(state.cropped(place, place + 1))",
        "answer",
    ),
    "futures of one past": ("nn/backbones/past.py", "room.written != begin or ", ""),
    "later places of the last ones": (
        "nn/backbones/encoder.py",
        "everywhere.tril(length - queries)",
        "everywhere.tril()",
    ),
    "unknown tokens in front": ("core/denoisers/padded.py", "(before, 0), value", "(0, 0), value"),
    "known tokens count": (
        "core/denoisers/exact.py",
        "agreement < best - rounding",
        "agreement < -torch.inf",
    ),
    "double precision draws": (
        "core/numerics.py",
        "in_double(probs).cumsum",
        "probs.float().cumsum",
    ),
    "weight 0 is never drawn": ("core/numerics.py", "level, right=True", "level, right=False"),
    "jump of a rolling window": (
        "core/paths/orders.py",
        "& free) * float(length))",
        "& free) * 1.0)",
    ),
    "share of a block": ("core/paths/orders.py", ".slowed(1 / num_blocks)", ".slowed(1.0)"),
    "rate of Lomax": ("core/paths/spacings.py", "(-1 / self.shape - 1)", "(-1 / self.shape)"),
    "steps of a policy": ("core/policies/base.py", "grid.snr(n + 1)", "grid.snr(n)"),
    "most certain first": (
        "core/policies/unmasking.py",
        "rank_free(-certainty, unknown)",
        "rank_free(certainty, unknown)",
    ),
    "sign of the entropy": (
        "core/policies/certainties/low_entropy.py",
        "exp(-posterior.entropy)",
        "exp(posterior.entropy)",
    ),
    "waiting in a joined path": (
        "core/paths/base.py",
        "second.speed.masked_fill(waits, 0.0)",
        "second.speed",
    ),
    "rate of masks": ("methods/schedules.py", "hidden = (1 - ", "hidden = (2 - "),
    "weight of ARDM": ("methods/any_order.py", "/ (length - num_seen))", "/ (length + num_seen))"),
    "blocks of the left stack": ("methods/resized.py", "depth + 1) // 2", "depth) // 2"),
    "depth of equal size": ("methods/resized.py", "max(1, 1 + round(", "max(1, round("),
    "targets of the control": (
        "methods/leave_one_out.py",
        "return F.cross_entropy(logits.transpose(1, 2), tokens)",
        "return F.cross_entropy(logits.transpose(1, 2), tokens.masked_fill(~is_masked, -100))",
    ),
    "sides of the control": (
        "methods/leave_one_out.py",
        "between(tokens, torch.full_like(tokens, self.mask))",
        "between(torch.full_like(tokens, self.mask), tokens)",
    ),
    "what is shown": ("methods/mac.py", "so_far <= num_shown", "so_far < num_shown"),
    "order of MAC": ("methods/mac.py", "descending=True", "descending=False"),
    "density of times": (
        "methods/time_integral.py",
        "(1 - power[:, None]) / power",
        "(1 - power[:, None]) * power",
    ),
    "first step": ("methods/multinomial.py", "weights[0] = weights[1]", "weights[1] = weights[0]"),
    "mass of jumps": ("methods/generalized_md4.py", "-rate * (own + 1)", "-rate * own"),
    "leave one out": (
        "methods/generalized_md4.py",
        "(first.nats - second.nats).sum",
        "(first.nats + second.nats).sum",
    ),
    "kept between two times": ("methods/kernels.py", "kept = alpha_t / alpha_s", "kept = alpha_t"),
    "score entropy": ("methods/sedd.py", "- ratios * log_s", "+ ratios * log_s"),
    "Tweedie": ("methods/sedd.py", "ratios - (1 - kept) * stationary", "ratios - stationary"),
    "importance of a step": (
        "methods/multinomial.py",
        "nats / probs[index]",
        "nats * probs[index]",
    ),
    "half of Plaid": ("methods/plaid.py", "0.5 * ((-level.g).exp()", "1.0 * ((-level.g).exp()"),
    "variance of the schedule": ("methods/plaid.py", "gradient * 2 * losses", "gradient * losses"),
    "circular shift": (
        "methods/discrete_flow.py",
        "rfft(subtrahend).conj()",
        "rfft(subtrahend)",
    ),
    "slope of a softplus": ("methods/argmax_flow.py", "- F.logsigmoid(u)", "+ F.logsigmoid(u)"),
    "slope of a flow": ("methods/latent_flow.py", "self.b - 2 * self.c", "self.b - 1 * self.c"),
}


def survives(file: str, old: str, new: str) -> bool:
    """Return whether the tests of its room pass although `old` was replaced by `new`."""
    room = file.split("/")[0]
    with tempfile.TemporaryDirectory() as folder:
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, Path(folder, part))
        shutil.copy(ROOT / "pyproject.toml", folder)
        path = Path(folder, "src", "stochloc", file)
        source = path.read_text(encoding="utf-8")
        if source.count(old) != 1:
            sys.exit(f"{file} holds {old!r} {source.count(old)} times, not once: mend mutate.py.")
        path.write_text(source.replace(old, new), encoding="utf-8")
        tests = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            f"tests/{room}",
        ]
        environment = os.environ | {"PYTHONPATH": str(Path(folder, "src"))}
        run = subprocess.run(tests, cwd=folder, env=environment, capture_output=True, text=True)
        if run.returncode not in (0, 1):  # not a failed test, but a suite that could not run
            sys.exit(run.stdout + run.stderr)
        failed = [line for line in run.stdout.splitlines() if line.startswith("FAILED")]
        print("  ", failed[0] if failed else "no test failed", flush=True)
        return run.returncode == 0


def main() -> None:
    """Run the chosen mutations and say which were killed."""
    words = sys.argv[1:] or [""]
    chosen = [name for name in MUTATIONS if any(word in name for word in words)]
    alive = []
    for name in chosen:
        print(name, flush=True)
        if survives(*MUTATIONS[name]):
            alive.append(name)
    print(f"{len(chosen) - len(alive)} killed, {len(alive)} survived", *alive, sep="\n  ")
    sys.exit(bool(alive))


if __name__ == "__main__":
    main()
