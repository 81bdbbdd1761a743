"""The command `demo`: a server that starts, tells its address, and ends when it is told to."""

import http.client
import json
import os
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from stochloc.cli import main


@pytest.fixture
def refused(capsys):
    """Run a command that must end with code 2, and return its sentence."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["demo", *map(str, arguments)])
        assert stopped.value.code == 2
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return said.err

    return run


def test_what_cannot_be_served_is_refused_with_a_sentence(trained, refused, monkeypatch):
    assert "There is no run in" in refused(trained / "nothing")
    assert "needs a --token" in refused(trained / "run", "--host", "0.0.0.0")
    assert "--host" in refused(trained / "run", "--host", "203.0.113.1", "--token", "x")
    assert "--port must be from 0 to 65535" in refused(trained / "run", "--port", 70000)
    monkeypatch.setattr("stochloc.cli.demo.find_spec", lambda name: None)
    assert 'pip install "stochloc[demo]"' in refused(trained / "run")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, -signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_server_and_its_walks_at_once(trained, number, code):
    command = [sys.executable, "-m", "stochloc", "demo", str(trained / "run"), "--no-open"]
    with subprocess.Popen(
        [*command, "--port", "0", "--token", "a b"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        address = urlsplit(process.stdout.readline().strip())
        assert address.query == "token=a+b"
        connection = http.client.HTTPConnection(str(address.netloc), timeout=60)
        body = json.dumps({"length": 512, "steps": 1024, "path": "masked"})
        headers = {"Content-Type": "application/json", "Authorization": "Bearer a b"}
        connection.request("POST", "/api/walk", body, headers)
        response = connection.getresponse()
        assert response.readline() == b"event: start\n"
        process.send_signal(number)
        rest = response.read()
        assert b"The server is stopping." in rest
        assert process.wait(timeout=20) == code
        said = process.stderr.read()
        assert "Traceback" not in said
        connection.close()
