"""Requests drawn from the OpenAPI description: none makes the server fail, each has an answer.

Schemathesis draws them, valid ones and such as break one rule. Numbers that only cost time are
brought down before a request is sent: it is the server that is tried, not the patience.
"""

import math
import warnings
from collections import Counter
from itertools import product

import pytest
import schemathesis
from app.asking import here
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from stochloc.tasks.runs import open_run

pytestmark = pytest.mark.bulk

# Of what only takes time, as much as is asked for up to this number.
ENOUGH = {
    "steps": 6, "n": 3, "draws": 3, "length": 24, "rounds": 1, "corrector_rounds": 1,
}  # fmt: skip
LONGEST_TEXT = 60
TEXTS, ALPHABET = (
    ("text", "prompt", "template", "token", "constraint"),
    " etaonihsrdlucmwyfgpbvkjqxz",
)
SLOWEST_S = 60


@pytest.fixture(scope="module")
def server(trained):
    with here(open_run(trained / "run")) as server:
        yield server


@pytest.fixture(scope="module")
def description(server):
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")


def hurried(value, name=""):
    """A value of which nothing takes long: as it is where it is refused anyway."""
    if isinstance(value, dict):
        return {key: hurried(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [hurried(inner, name) for inner in value]
    if isinstance(value, str) and name in TEXTS:
        return value[:LONGEST_TEXT] if len(value) <= 4096 else value
    most = ENOUGH.get(name)
    if most is not None and isinstance(value, int | float) and most < value <= 1024:
        return 1 + value % most
    return value


def told(value, name=""):
    """A value in which most texts are of characters that the model knows; it serves one model."""
    if isinstance(value, dict):
        return {key: told(inner, key) for key, inner in value.items() if key != "model"}
    if isinstance(value, list):
        return [told(inner, name) for inner in value]
    if isinstance(value, str) and name in TEXTS and len(value) % 4:
        return "".join(c if c in "{}_-:0123" else ALPHABET[ord(c) % 27] for c in value)
    return value


def _tried(operation, mode, num, statuses):
    documented = {int(status) for status in operation.definition.raw["responses"]}

    @settings(
        max_examples=num, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def is_answered(case):
        case.body = hurried(case.body if mode is GenerationMode.NEGATIVE else told(case.body))
        response = case.call(timeout=SLOWEST_S)
        assert response.status_code in documented, response.text
        statuses[response.status_code] += 1
        if response.status_code >= 400:
            sentence = response.json()["detail"]
            assert 0 < len(sentence) < 1000
            assert "Traceback" not in sentence

    is_answered()


def tried(description, num):
    """Send requests; return how many had each status."""
    statuses = Counter()
    # What takes no body has nothing to draw.
    operations = [found.ok() for found in description.get_all_operations()]
    operations = [operation for operation in operations if operation.body]
    each = math.ceil(num / len(operations) / 2)
    for operation, mode in product(operations, GenerationMode):
        with warnings.catch_warnings():
            # Some rules of a body have no value that breaks them alone.
            warnings.simplefilter("ignore")
            _tried(operation, mode, each, statuses)
    return statuses


def test_drawn_requests_are_answered_or_refused_with_a_sentence(server, description):
    statuses = tried(description, 60)
    assert statuses[200] > 5
    assert statuses[422] > 20
    assert max(statuses) < 500
    server.wait_until_idle()


@pytest.mark.slow
def test_five_thousand_requests_make_no_server_fail(server, description):
    statuses = tried(description, 5000)
    print(dict(statuses))
    assert statuses.total() >= 5000
    assert max(statuses) < 500
    server.wait_until_idle()
