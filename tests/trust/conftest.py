"""A tiny run, and a separate process in which untrusted files and inputs are tried."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from tasks.conftest import TEXT

TINY = (
    "--length", "16", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "4",
    "--accelerator", "cpu",
)  # fmt: skip
LONGEST_S = 60


class Worker:
    """A child process that answers requests, started again if it died."""

    def __init__(self, cache):
        self.environment = {**os.environ, "STOCHLOC_CACHE": str(cache), "OMP_NUM_THREADS": "1",
                            "HF_HUB_OFFLINE": "1"}  # fmt: skip
        self.process = None

    def __call__(self, action, *arguments):
        """Return how it ended; a hang or a death fails the test."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("worker.py"))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([action, *map(str, arguments)]) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], LONGEST_S)
        if not ready:
            self.close()
        assert ready, f"{action} {arguments} hangs"
        line = self.process.stdout.readline()
        assert line, f"{action} {arguments} killed the process"
        answer = json.loads(line)
        assert not answer["ended"].startswith("crash"), answer["ended"]
        return answer

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="session")
def worker(tmp_path_factory):
    process = Worker(tmp_path_factory.mktemp("cache"))
    yield process
    process.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory, worker):
    """A folder with a text and a run on it; tests may read it, never write."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    ended = worker("command_line", "train", "--data", folder / "text.txt", "--out",
                   folder / "run", *TINY, "--steps", "2")  # fmt: skip
    assert ended["ended"] == "done", ended
    return folder / "run"
