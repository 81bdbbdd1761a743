"""Two machines made of one: does their training equal one process, and how does it end?

Two network namespaces with a cable between them, and host names and addresses of their own, stand
for two machines that share a disk. Linux alone has them, they need root, and `ip` of iproute2.

    sudo python benchmarks/two_hosts.py [equal] [ends] [kills] [--kills 20] [--updates 2000]

`equal` trains one model in one process and on two machines (copies and shards of the model, begun
by torchrun and by environment variables) and compares losses, bounds and weights. `ends` kills a
process, kills a machine and cuts the cable, measures how long the others take to end, and resumes
on one machine. `kills` kills one of two processes at random moments, resumes every time, and
compares the result with a run that nothing happened to, bit by bit.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

TEXT = "the quick brown fox jumps over the lazy dog and runs away with a big jar of quinces "
MODEL = (
    "--length", "16", "--width", "32", "--depth", "2", "--heads", "2", "--batch-size", "8",
    "--accelerator", "cpu",
)  # fmt: skip
LONGEST_S = 900


@dataclass(frozen=True)
class Host:
    """A machine made of a network namespace.

    Attributes:
        name: Its name, also of the namespace.
        address: Its address.
        interface: The end of the cable in it.
        number: Which of the two it is.
    """

    name: str
    address: str
    interface: str
    number: int

    def start(
        self, command: Sequence[str], cache: Path, more: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command there, which becomes the process that is returned."""
        own = {"STOCHLOC_CACHE": str(cache / self.name), "OMP_NUM_THREADS": "1"}
        inside = ("sh", "-c", 'hostname "$0" && exec "$@"', self.name, *command)
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "--uts", *inside],
            env={**os.environ, **own, **(more or {})}, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def processes(self) -> list[int]:
        """Return the processes there."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        return [int(pid) for pid in listed.stdout.split()]

    def kill(self) -> None:
        """Kill all of them."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def cable(self, is_there: bool) -> None:
        """Plug the cable in or out."""
        ip("-n", self.name, "link", "set", self.interface, "up" if is_there else "down")


def ip(*arguments: str) -> None:
    """Run iproute2's command."""
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two machines, which are gone afterwards."""
    tag = f"{os.getpid() % 10_000:04d}"
    hosts = tuple(
        Host(f"host-{name}-{tag}", f"10.77.0.{n}", f"v{name}{tag}", n - 1)
        for n, name in enumerate("ab", start=1)
    )
    names = "127.0.0.1 localhost\n" + "".join(f"{h.address} {h.name}\n" for h in hosts)
    folders = [Path("/etc/netns") / host.name for host in hosts]
    try:
        for host, folder in zip(hosts, folders, strict=True):
            ip("netns", "add", host.name)
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(names)
        a, b = hosts
        ip("link", "add", a.interface, "netns", a.name, "type", "veth",
           "peer", "name", b.interface, "netns", b.name)  # fmt: skip
        for host in hosts:
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.interface)
            ip("-n", host.name, "link", "set", "lo", "up")
            host.cable(True)
        yield a, b
    finally:
        for host, folder in zip(hosts, folders, strict=True):
            with suppress(subprocess.CalledProcessError, ProcessLookupError):
                host.kill()
            subprocess.run(["ip", "netns", "del", host.name], check=False)
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Trainings:
    """Starts trainings on two machines.

    Attributes:
        hosts: The machines.
        work: A folder that they share.
    """

    hosts: tuple[Host, Host]
    work: Path

    @property
    def text(self) -> Path:
        """The text to train on."""
        return self.work / "text.txt"

    def new(self, out: str, *more: str) -> list[str]:
        """Return the arguments of a new run."""
        return ["train", "--data", str(self.text), "--out", str(self.work / out), *MODEL, *more]

    def resumed(self, out: str, *more: str) -> list[str]:
        """Return the arguments that resume a run."""
        return ["train", "--out", str(self.work / out), "--resume", *more]

    def on_one(self, arguments: Sequence[str]) -> None:
        """Train in one process, on the first machine."""
        command = (sys.executable, "-m", "stochloc", *arguments)
        finish([self.hosts[0].start(command, self.work)])

    def by_torchrun(self, arguments: Sequence[str]) -> list[subprocess.Popen[str]]:
        """Start torchrun on both machines."""
        torchrun = (
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
            "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{self.hosts[0].name}:{free_port()}",
            "--rdzv-id", "two-hosts", "-m", "stochloc", *arguments,
        )  # fmt: skip
        return [host.start(torchrun, self.work) for host in self.hosts]

    def by_environment(self, arguments: Sequence[str]) -> list[subprocess.Popen[str]]:
        """Start the command itself on both machines, which are told where to meet."""
        command = (sys.executable, "-m", "stochloc", *arguments, "--num-nodes", "2")
        meeting = {"MASTER_ADDR": self.hosts[0].name, "MASTER_PORT": str(free_port())}
        return [
            host.start(command, self.work, {**meeting, "NODE_RANK": str(host.number)})
            for host in self.hosts
        ]

    def is_begun(self, out: str) -> bool:
        """Return whether a run can be resumed."""
        return (self.work / out / "recipe.json").exists()

    def written_at(self, out: str) -> int:
        """Return when the checkpoint of a run was written; 0 if there is none."""
        try:
            return (self.work / out / "checkpoint.safetensors").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def losses(self, out: str) -> dict[int, float]:
        """Return the losses of a run, bits, by the number of updates."""
        return {line["step"]: line["loss_bits"] for line in self._lines(out) if "loss_bits" in line}

    def bound(self, out: str) -> float:
        """Return the last held-out bound of a run, bits per token."""
        return [line for line in self._lines(out) if "stderr" in line][-1]["valid_bits_per_token"]

    def difference(self, one: str, other: str) -> float:
        """Return the largest difference of two runs' weights, averages and moments."""
        first, second = (load_file(self.work / out / "checkpoint.safetensors")
                         for out in (one, other))  # fmt: skip
        assert first.keys() == second.keys()
        return max(float((first[k].double() - second[k].double()).abs().max()) for k in first)

    def _lines(self, out: str) -> list[dict[str, Any]]:
        text = (self.work / out / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


def free_port() -> int:
    """Return a port that is most likely free in both new namespaces."""
    return random.SystemRandom().randrange(20_000, 30_000)


def finish(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Wait until all have ended well."""
    for process in processes:
        _, errors = process.communicate(timeout=LONGEST_S)
        if process.returncode:
            raise SystemExit(f"a training ended with {process.returncode}:\n{errors}")


def wait_until(process: subprocess.Popen[str], is_so: Callable[[], bool]) -> bool:
    """Wait until something is so; whether the process is still at work then."""
    while process.poll() is None and not is_so():
        time.sleep(0.02)
    return process.poll() is None


def equal(trainings: Trainings, seed: int) -> None:
    """Compare a training on two machines with one in one process."""
    settings = ("--steps", "40", "--eval-every", "20", "--seed", str(seed))
    trainings.on_one(trainings.new("one", *settings))
    finish(trainings.by_torchrun(trainings.new("copies", *settings, "--strategy", "ddp")))
    finish(trainings.by_torchrun(trainings.new("shards", *settings, "--strategy", "fsdp")))
    finish(trainings.by_environment(trainings.new("by-hand", *settings)))
    print(
        "\n40 updates      | last loss, bits | held-out bound | largest difference to one process"
    )
    rows = {"one": "one process", "copies": "two hosts, ddp", "shards": "two hosts, fsdp",
            "by-hand": "no torchrun"}  # fmt: skip
    for out, name in rows.items():
        loss, bound = trainings.losses(out)[40], trainings.bound(out)
        print(f"{name:15} | {loss:15.9f} | {bound:14.9f} | {trainings.difference('one', out):.1e}")


def ends(trainings: Trainings, seed: int) -> None:
    """Measure how long a process takes to end after the other machine's."""
    a, b = trainings.hosts
    settings = ("--steps", "20000", "--checkpoint-every", "10", "--seed", str(seed))

    def kill_process(host: Host) -> None:
        for pid in host.processes():
            name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"torch.distributed.run" not in name:
                os.kill(pid, signal.SIGKILL)

    events = {
        "second process killed": (b, kill_process), "first process killed": (a, kill_process),
        "second machine killed": (b, Host.kill), "first machine killed": (a, Host.kill),
        "cable of the second cut": (b, lambda host: host.cable(False)),
    }  # fmt: skip
    print("\nwhat happened           | the other ended after | and said")
    for number, (name, (host, event)) in enumerate(events.items()):
        out, other = f"ended-{number}", a if host is b else b
        started = trainings.by_torchrun(trainings.new(out, *settings))
        assert wait_until(started[0], lambda out=out: trainings.written_at(out) > 0)
        event(host)
        begin_s = time.monotonic()
        _, errors = started[other.number].communicate(timeout=LONGEST_S)
        ended_s = time.monotonic() - begin_s
        host.kill()
        started[host.number].communicate(timeout=LONGEST_S)
        host.cable(True)
        said = [line for line in errors.splitlines() if line.startswith("stochloc: ")]
        told = " / ".join(line.removeprefix("stochloc: ").split(";")[0] for line in said)
        print(f"{name:23} | {ended_s:19.1f} s | {told}")
    goal = max(trainings.losses("ended-0")) + 100
    command = (sys.executable, "-m", "stochloc", *trainings.resumed("ended-0"))
    alone = a.start(command, trainings.work)
    wait_until(alone, lambda: max(trainings.losses("ended-0")) >= goal)
    alone.send_signal(signal.SIGTERM)  # its recipe says 20,000 updates
    _, errors = alone.communicate(timeout=LONGEST_S)
    warned = [line for line in errors.splitlines() if "has trained on" in line]
    print(f"resumed on one machine to update {max(trainings.losses('ended-0'))}: {warned[0]}")


def kills(trainings: Trainings, num: int, updates: int, seed: int) -> None:
    """Kill one of two processes at random moments and compare the run with one left alone."""
    settings = ("--steps", str(updates), "--checkpoint-every", "2", "--eval-every", str(updates))
    finish(trainings.by_environment(trainings.new("whole", *settings)))
    chance, done = random.Random(seed), []
    while len(done) < num:
        is_begun = trainings.is_begun("cut")
        again = trainings.resumed("cut") if is_begun else trainings.new("cut", *settings)
        processes, since = trainings.by_environment(again), trainings.written_at("cut")
        victim = chance.randrange(2)
        wait_until(processes[victim], lambda since=since: trainings.written_at("cut") > since)
        is_time = Clock(time.monotonic() + chance.uniform(0, 1))
        if not wait_until(processes[victim], is_time):
            raise SystemExit(f"the run was over after {len(done)} kills")
        processes[victim].kill()
        begin_s = time.monotonic()
        _, errors = processes[1 - victim].communicate(timeout=LONGEST_S)
        processes[victim].communicate()
        said = [line for line in errors.splitlines() if line.startswith("stochloc: Process")]
        done.append((victim, time.monotonic() - begin_s, len(said)))
        steps = max(trainings.losses("cut"), default=0) if trainings.written_at("cut") else 0
        if any("Traceback" in line for line in errors.splitlines()):
            raise SystemExit(f"the other process ended with a traceback:\n{errors}")
        print(f"kill {len(done):2}: process {victim + 1}, near update {steps}; the other ended "
              f"after {done[-1][1]:.1f} s with {len(said)} sentence(s)", flush=True)  # fmt: skip
    finish(trainings.by_environment(trainings.resumed("cut")))
    same = trainings.losses("whole") == trainings.losses("cut")
    print(f"{num} kills: losses equal: {same}; largest difference of weights and moments: "
          f"{trainings.difference('whole', 'cut')}; the other process took at most "
          f"{max(seconds for _, seconds, _ in done):.1f} s to end")  # fmt: skip


@dataclass(frozen=True)
class Clock:
    """Whether a moment has come.

    Attributes:
        at_s: The moment, by the monotonic clock.
    """

    at_s: float

    def __call__(self) -> bool:
        """Return whether it has."""
        return time.monotonic() >= self.at_s


def main() -> None:
    """Show what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parts = ("equal", "ends", "kills")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=list(parts))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--updates", type=int, default=2000, help="in the run that is killed")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if os.name != "posix" or os.geteuid() != 0:
        raise SystemExit("Network namespaces need root: run this with sudo, on Linux.")
    if shutil.which("ip") is None:
        raise SystemExit("There is no `ip`: install iproute2.")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # tidies up
    with tempfile.TemporaryDirectory() as work, two_hosts() as hosts:
        trainings = Trainings(hosts, Path(work))
        trainings.text.write_text(TEXT * 300, encoding="utf-8")
        if "equal" in asked.parts:
            equal(trainings, asked.seed)
        if "ends" in asked.parts:
            ends(trainings, asked.seed)
        if "kills" in asked.parts:
            kills(trainings, asked.kills, asked.updates, asked.seed)


if __name__ == "__main__":
    main()
