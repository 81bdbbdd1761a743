"""Dependencies: the oldest stated versions suffice, and the wheel is complete."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "src" / "stochloc" / "app" / "static"
MINIMUM = ROOT / "requirements.minimum"
LOCK = ROOT / "requirements.lock"


def pinned(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return {
        name.lower().replace("_", "-"): version
        for name, version in (line.split("==") for line in lines if "==" in line)
    }


def required():
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pairs = (re.split(">=|==", line) for line in facts["project"]["dependencies"])
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def as_numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_the_oldest_versions_tested_are_those_the_package_asks_for():
    assert pinned(MINIMUM) == required()


def test_the_newest_versions_tested_are_at_least_the_oldest():
    newest = pinned(LOCK)
    for name, version in required().items():
        assert as_numbers(newest[name]) >= as_numbers(version), name


def test_pinned_files_name_versions_and_nothing_of_a_machine():
    for path in (MINIMUM, LOCK):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.+]+", line), line


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """An empty environment with the oldest versions and a wheel built from this tree."""
    folder = tmp_path_factory.mktemp("fresh")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*command):
        done = subprocess.run(
            [str(part) for part in command], cwd=folder, env=environment, capture_output=True,
            text=True, timeout=2400,
        )  # fmt: skip
        return done

    run(sys.executable, "-m", "venv", "venv")
    python = folder / "venv" / "bin" / "python"
    built = run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    if built.returncode and "No matching distribution" in built.stderr + built.stdout:
        pytest.skip("no package index can be reached")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("stochloc-*.whl")
    done = run(python, "-m", "pip", "install", "--quiet", "-r", MINIMUM, wheel)
    assert done.returncode == 0, done.stderr
    return run, python


@pytest.mark.slow
def test_a_wheel_with_the_oldest_dependencies_alone_imports_and_passes_quickstart(fresh, tmp_path):
    run, python = fresh
    packages = "stochloc, stochloc.core, stochloc.data, stochloc.nn, stochloc.methods, stochloc.cli"
    done = run(python, "-W", "error", "-c", f"import {packages}")
    assert done.returncode == 0, done.stderr
    assert run(python, "-c", "import matplotlib").returncode != 0, "extras must stay extras"
    for name in ("compare", "cyclic"):
        assert run(python, "-m", "stochloc", name, "--help").returncode == 0
    done = run(python, "-m", "stochloc", "quickstart", "--out", tmp_path / "quickstart")
    assert done.returncode == 0, done.stderr
    assert "bits per character" in done.stdout
    done = run(python, "-m", "stochloc", "sample", tmp_path / "quickstart", "--n", 1, "--json")
    assert done.returncode == 0, done.stderr
    static = "from importlib.resources import files; print(files('stochloc.app') / 'static')"
    page = run(python, "-c", static).stdout.strip()
    missing = [file.name for file in STATIC.iterdir() if not (Path(page) / file.name).is_file()]
    assert missing == []
    done = run(python, "-m", "stochloc", "demo", tmp_path / "quickstart")
    assert done.returncode == 2
    assert 'pip install "stochloc[demo]"' in done.stderr
