"""Fifty clients of the page at once: is everybody answered, how fair, and in how much memory?

A server process (`stochloc demo RUN`) is asked in turn

- by one client, for a walk: the seconds of a walk alone;
- by two, by ten and by all clients at once, each for a walk of its own: how many are answered, the
  slowest one's seconds as a multiple of those alone, and the same divided by the number of clients,
  which is 1 where each has its fair share; and the processor time of the server for each walk, as a
  multiple of that alone, which does not depend on what else the machine does;
- by a client for a walk beside four that score and sample as much as a request may: a walk beside
  large requests, of which it is one of five;
- by all clients for walks of which they read the first frame, and leave: how long until the server
  computes nothing.

Beside that, the seconds until the first page is there, and the resident memory of the server
process at its start and at its most. Ratios are formed within one run: seconds depend on the
machine and on what else it does.

    python benchmarks/page_load.py RUN [--clients 50] [--steps 64] [--length 64] [--smoke]
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from smoke import small_run

LARGE = (
    ("score", {"text": "the fox and the dog " * 60, "path": "masked", "steps": 256, "draws": 16}),
    ("sample", {"n": 16, "length": 256, "steps": 256, "path": "masked"}),
)
TIMEOUT_S = 900
# Whether a walk came to its end, and its seconds.
Taken = tuple[bool, float]


@dataclass(frozen=True)
class Server:
    """A server process.

    Attributes:
        process: Its number.
        netloc: Its host and port.
    """

    process: int
    netloc: str

    @property
    def memory_mb(self) -> float:
        """Resident memory now, in MB."""
        return self._memory("VmRSS")

    @property
    def most_memory_mb(self) -> float:
        """The most resident memory so far, in MB."""
        return self._memory("VmHWM")

    def connect(self, path: str, body: Any = None) -> http.client.HTTPConnection:  # noqa: ANN401
        """Send a request."""
        connection = http.client.HTTPConnection(self.netloc, timeout=TIMEOUT_S)
        headers = {"Content-Type": "application/json"}
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), headers)
        return connection

    def ask(self, path: str, body: Any = None) -> tuple[int, bytes]:  # noqa: ANN401
        """Return status and body of a response."""
        with closing(self.connect(path, body)) as connection:
            response = connection.getresponse()
            return response.status, response.read()

    def _memory(self, name: str) -> float:
        status = Path(f"/proc/{self.process}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0


@contextmanager
def serving(run: str) -> Iterator[Server]:
    """Yield a server of a run, and end it."""
    command = [sys.executable, "-m", "stochloc", "demo", run, "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process.pid, urlsplit(process.stdout.readline().strip()).netloc)
        finally:
            process.terminate()


def walk(server: Server, body: dict[str, Any], seed: int) -> Taken:
    """Take a walk; return whether it came to its end, and its seconds."""
    began_s = time.monotonic()
    status, told = server.ask("/api/walk", {**body, "seed": seed})
    is_whole = status == 200 and b"event: done\n" in told
    return is_whole, time.monotonic() - began_s


def together(num: int, work: Callable[[int], Taken]) -> list[Taken]:
    """Return what some threads return that do the same work at once."""
    results = dict[int, Taken]()

    def one(number: int) -> None:
        results[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(num)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(num)]


def first_page(server: Server) -> float:
    """Return the seconds until the page and all that it names are there."""
    began_s = time.monotonic()
    _, page = server.ask("/")
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.decode()):
        server.ask(address)
    server.ask("/api/models")
    return time.monotonic() - began_s


def beside_large(server: Server, body: dict[str, Any]) -> float:
    """Return the seconds of a walk beside four of the largest requests, which then leave."""
    large = [server.connect(f"/api/{path}", asked) for path, asked in LARGE * 2]
    time.sleep(0.5)
    is_whole, seconds = walk(server, body, 0)
    assert is_whole
    for connection in large:
        connection.close()
    return seconds


def leaving(server: Server, body: dict[str, Any], num: int) -> float:
    """Return the seconds until a server is idle whose clients have left."""
    connections = [server.connect("/api/walk", {**body, "steps": 1024}) for _ in range(num)]
    for connection in connections:
        connection.getresponse().readline()
    for connection in connections:
        connection.close()
    left_s = time.monotonic()
    while json.loads(server.ask("/api/models")[1])["running"]:
        time.sleep(0.01)
    return time.monotonic() - left_s


def _processor_s(server: Server) -> float:
    fields = Path(f"/proc/{server.process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(server: Server, clients: int, body: dict[str, Any]) -> None:
    """Measure, and print a table."""
    print(f"first page with all it names: {first_page(server):.3f} s")
    begin_mb = server.memory_mb
    walk(server, body, 0)
    used_s = _processor_s(server)
    alone_s = statistics.median(walk(server, body, seed)[1] for seed in range(5))
    work_s = (_processor_s(server) - used_s) / 5
    print(f"a walk alone: {alone_s:.3f} s; memory at the start {begin_mb:.0f} MB")
    print("clients  answered  slowest/alone  per client  fastest/slowest  processor  memory")
    for num in sorted({2, min(10, clients), clients}):
        used_s = _processor_s(server)
        taken = together(num, lambda number: walk(server, body, number))
        work = (_processor_s(server) - used_s) / num / work_s
        times = [seconds for _, seconds in taken]
        answered = sum(is_whole for is_whole, _ in taken)
        ratio = max(times) / alone_s
        print(
            f"{num:7d}  {answered:8d}  {ratio:13.1f}  {ratio / num:10.2f}  "
            f"{min(times) / max(times):15.2f}  {work:9.2f}  {server.memory_mb:5.0f} MB"
        )
    print(f"a walk beside 4 large requests: {beside_large(server, body) / alone_s:.1f} times alone")
    print(f"{clients} clients leave: idle after {leaving(server, body, clients):.2f} s")
    print(f"most memory: {server.most_memory_mb:.0f} MB")


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", help="folder of a run")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    if asked.smoke:
        with small_run() as run, serving(run) as server:
            measure(server, 3, {"steps": 2, "length": 8})
        return
    if asked.run is None:
        parser.error("give the folder of a run, or --smoke")
    with serving(asked.run) as server:
        measure(server, asked.clients, {"steps": asked.steps, "length": asked.length})


if __name__ == "__main__":
    main()
