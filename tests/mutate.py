"""Break the mathematics on purpose and show that the tests notice: `python tests/mutate.py`.

Each mutation replaces one text in a temporary copy of the repository and runs the tests of the
core until the first failure. A mutation that no test kills is a hole in the suite; one whose text
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
LOG_MGF = "(posterior.codebook.encode(tokens) * dz).sum(-1)"
# Name: file of the core, text, replacement.
MUTATIONS = {
    "half of Euler's cost": ("transitions.py", "moving = 0.5 * torch", "moving = 1.0 * torch"),
    "half of the line integral": ("likelihood.py", "(0.5 * point.speed", "(1.0 * point.speed"),
    "sign of the drift": ("channel.py", "state.z + step * drift", "state.z - step * drift"),
    "root of the step": ("channel.py", "step.sqrt() * noise", "step * noise"),
    "variance of the bridge": ("channel.py", "target * (1 - share)", "target * (1 + share)"),
    "mean of the bridge": ("channel.py", "share[..., None] * state.z", "state.z"),
    "rate of masked jumps": ("orders.py", "unknown * rate.to(zero)", "unknown.to(zero)"),
    "log-mgf of the ancestral": ("transitions.py", f"{LOG_MGF} - posterior.log_mgf(dz)", LOG_MGF),
    "end of a path": ("likelihood.py", "nats - in_double(denoiser(end).log_prob(tokens))", "nats"),
    "Euler follows the mean": ("transitions.py", "state, posterior.mean,", "state, state.z,"),
    "evidence": ("denoiser.py", "log_prior + state.z.flatten", "log_prior + 0.9 * state.z.flatten"),
    "prior": ("denoiser.py", "log_joint = self.log_prior + ", "log_joint = "),
    "known tokens count": ("denoiser.py", "agreement < best - rounding", "agreement < -torch.inf"),
    "double precision draws": ("numerics.py", "in_double(probs).cumsum", "probs.float().cumsum"),
    "weight 0 is never drawn": ("numerics.py", "u, right=True", "u, right=False"),
    "jump of a rolling window": ("orders.py", "& free) * float(length))", "& free) * 1.0)"),
    "share of a block": ("orders.py", ".slowed(1 / num_blocks)", ".slowed(1.0)"),
    "rate of Lomax": ("spacings.py", "(-1 / self.shape - 1)", "(-1 / self.shape)"),
    "steps of a policy": ("policies.py", "grid.snr(n + 1)", "grid.snr(n)"),
    "waiting in a joined path": (
        "paths.py",
        "second.speed.masked_fill(waits, 0.0)",
        "second.speed",
    ),
}


def survives(file: str, old: str, new: str) -> bool:
    """Return whether the tests of the core pass although `old` was replaced by `new`."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, Path(folder, part))
        shutil.copy(ROOT / "pyproject.toml", folder)
        path = Path(folder, "src", "stochloc", "core", file)
        source = path.read_text(encoding="utf-8")
        if source.count(old) != 1:
            sys.exit(f"{file} holds {old!r} {source.count(old)} times, not once: mend mutate.py.")
        path.write_text(source.replace(old, new), encoding="utf-8")
        tests = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "tests/core"]
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
