"""The HTTP interface answers as the command line does, and its door stays shut to others."""

import http.client
import json
import re
import socket
import time

import pytest
from app.asking import here, parsed

from stochloc.app import answers, server
from stochloc.app.guard import Door
from stochloc.app.limits import LIMITS
from stochloc.app.serving import address_of, bind
from stochloc.cli import main
from stochloc.tasks.correct.doubts import doubts
from stochloc.tasks.runs import open_run

pytestmark = pytest.mark.bulk

LONG_WALK = {"length": LIMITS.length, "steps": LIMITS.steps, "path": "masked"}


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained / "run")


@pytest.fixture(scope="module")
def served_here(run):
    with here(run) as server:
        yield server


@pytest.fixture
def command(trained, capsys):
    """What a command prints as JSON."""

    def ask(name, *arguments):
        capsys.readouterr()
        main([name, str(trained / "run"), *map(str, arguments), "--json"])
        return json.loads(capsys.readouterr().out)

    return ask


def without_times(values):
    return {key: value for key, value in values.items() if key != "seconds"}


def test_samples_are_those_of_the_command(served_here, command):
    body = {"n": 3, "length": 12, "steps": 4, "prompt": "the", "seed": 7, "top_p": 0.9}
    answer = served_here.post("/api/sample", body)
    flags = ("--n", 3, "--length", 12, "--steps", 4, "--prompt", "the", "--seed", 7,
             "--top-p", 0.9)  # fmt: skip
    assert without_times(answer.json) == without_times(command("sample", *flags))
    events = served_here.events("/api/sample", {**body, "length": 512, "n": 3})
    assert [(name, data.get("first")) for name, data in events] == [
        ("sample", 0), ("sample", 2), ("done", None),
    ]  # fmt: skip
    told = [text for name, data in events[:-1] for text in data["samples"]]
    assert told == events[-1][1]["samples"]


def test_scores_are_those_of_the_command_and_tokens_have_bits(served_here, command, tmp_path):
    (tmp_path / "lines").write_text("the fox\njumps\n")
    for more, flags in (
        ({}, ()), ({"path": "masked", "steps": 3, "draws": 2, "seed": 4},
                   ("--path", "masked", "--steps", 3, "--draws", 2, "--seed", 4)),
    ):  # fmt: skip
        answer = served_here.post("/api/score", {"text": ["the fox", "jumps"], **more}).json
        for line in answer["lines"]:
            for token in line["tokens"]:
                assert token.pop("bits") == pytest.approx(token["nats"] / 0.6931471805599453)
        assert answer.pop("remarks") == []
        expected = command("score", tmp_path / "lines", "--tokens", *flags)
        assert without_times(answer) == without_times(expected)


def test_a_line_that_is_refused_is_told_beside_the_others(served_here):
    answer = served_here.post("/api/score", {"text": ["the ☃", "fox"]}).json
    assert "☃" in answer["lines"][0]["refused"]
    assert answer["remarks"] == [answer["lines"][0]["refused"]]


def test_infillings_are_those_of_the_command(served_here, command):
    body = {"template": "the {2-3} f_x", "n": 3, "draws": 4, "constraint": ["2:aeiou"], "steps": 2}
    answer = served_here.post("/api/infill", body).json
    flags = ("--n", 3, "--draws", 4, "--constraint", "2:aeiou", "--steps", 2)
    expected = command("infill", body["template"], *flags)
    combinations = "the blanks may have 2 combinations of lengths; each of them is filled 4 times."
    assert answer.pop("remarks") == [combinations]
    assert without_times(answer) == without_times(expected)


def test_corrections_are_those_of_the_command_with_every_place(served_here, run, command):
    for more, flags in (
        ({"threshold": 0.0, "snr": 0.5}, ("--threshold", 0.0, "--snr", 0.5)),
        ({"one_pass": True, "threshold": 0.1, "snr": 2.0},
         ("--one-pass", "--threshold", 0.1, "--snr", 2.0)),
    ):  # fmt: skip
        answer = served_here.post("/api/correct", {"text": "the qu☃ck", **more}).json
        places = answer.pop("places")
        expected = command("correct", "the qu☃ck", *flags)
        assert without_times(answer) == without_times(expected)
    assert [place["position"] for place in places] == list(range(9))
    assert places[6]["text"] == "☃"
    assert places[6]["probability"] == 0
    told = doubts(run, "the qu☃ck", 2.0)
    assert [p["probability"] for p in places] == pytest.approx([d.probability for d in told])


def test_the_models_and_limits_are_described(served_here):
    answer = served_here.ask("GET", "/api/models").json
    assert answer["limits"] == LIMITS.to_dict()
    (model,) = answer["models"]
    assert model["name"] == "run"
    assert model["length"] == 16
    assert model["character_level"]
    assert model["left_to_right"]
    assert "masked" in model["paths"]
    assert "tuned" not in model["paths"]


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("sample", {"n": 0}, "n: input should be greater"),
        ("sample", {"length": "9-3"}, "length is a positive number"),
        ("sample", {"length": "3-9"}, "models of sequences"),
        ("sample", {"length": 513}, "512"),
        ("sample", {"temperature": 0}, "temperature"),
        ("score", {}, "text: field required"),
        ("score", {"text": ["a" * 4096] * 2}, "4096 characters together"),
        ("infill", {"template": "nothing"}, "no blank"),
        ("infill", {"template": "_{1-9}{1-9}"}, "combinations of lengths"),
        ("infill", {"template": "_", "all_different": True}, "share a coordinate"),
        ("correct", {"text": ""}, "no text to correct"),
        ("correct", {"text": "a", "walk": True, "edits": True}, "Give either"),
        ("correct", {"text": "ab", "confidences": [1]}, "give one for each"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(served_here, path, body, sentence):
    answer = served_here.post(f"/api/{path}", body)
    assert answer.status == 422, answer
    assert sentence in answer.json["detail"]


def test_a_body_that_is_no_json_is_told_so(served_here):
    answer = served_here.ask("POST", "/api/sample", b"not json")
    assert answer.status == 422
    assert answer.json["detail"] == "The body is not JSON; send a JSON object."


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"seed": NaN}', b'"\xff"', b'{"prompt": "\\ud800"}', b"", b"[" * 100_000],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_object_is_refused_with_a_sentence(served_here, body):
    answer = served_here.post("/api/walk", body)
    assert answer.status in (400, 422), answer
    assert answer.json["detail"].endswith(".")


def test_a_body_of_another_type_is_told_how_to_be_sent(served_here):
    answer = served_here.ask("POST", "/api/walk", b"{}", Content_Type="text/plain")
    assert answer.status == 422
    assert "Content-Type: application/json" in answer.json["detail"]


def test_addresses_and_methods_that_are_not_there_are_told_as_json(served_here):
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/static/none.js", 404),
                                 ("GET", "/api/walk", 405), ("GET", "/static/../../x", 404),
                                 ("GET", "/static/%2e%2e/server.py", 404)):  # fmt: skip
        answer = served_here.ask(method, path)
        assert answer.status == status, path
        assert set(answer.json) == {"detail"}


def test_a_body_that_is_too_large_is_refused_whether_its_size_is_told_or_not(served_here):
    large = b" " * (LIMITS.body + 1)
    assert served_here.post("/api/walk", large).status == 413
    connection = http.client.HTTPConnection("127.0.0.1", served_here.port, timeout=20)
    connection.request("POST", "/api/walk", iter([large[:1000]] * 300), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    response = connection.getresponse()
    assert response.status == 413
    assert "bytes" in json.loads(response.read())["detail"]
    connection.close()


def test_foreign_hosts_and_origins_are_refused(served_here):
    own = f"127.0.0.1:{served_here.port}"
    for headers, status in (
        ({"Host": "evil.example"}, 403), ({"Host": f"evil.example:{served_here.port}"}, 403),
        ({"Host": f"127.0.0.1.evil.example:{served_here.port}"}, 403), ({"Host": "[x"}, 403),
        ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
        ({"Origin": f"http://127.0.0.1:{served_here.port + 1}"}, 403),
        ({"Origin": "http://[x"}, 403),
        ({"Origin": f"http://{own}"}, 200), ({"Host": f"localhost:{served_here.port}"}, 200),
        ({"Host": "LOCALHOST"}, 200), ({}, 200),
    ):  # fmt: skip
        answer = served_here.ask("GET", "/api/models", **headers)
        assert answer.status == status, headers
        assert status == 200 or set(answer.json) == {"detail"}


def test_every_answer_forbids_scripts_and_frames_of_others(served_here):
    for path in ("/", "/docs", "/api/models", "/nothing", "/static/style.css"):
        headers = served_here.ask("GET", path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_the_description_names_every_address_and_fetches_nothing_from_elsewhere(served_here):
    description = served_here.ask("GET", "/openapi.json").json
    paths = {"/api/models", "/api/walk", "/api/sample", "/api/score", "/api/infill", "/api/correct"}
    assert set(description["paths"]) == paths
    page = served_here.ask("GET", "/docs").body.decode()
    assert all(path in page for path in paths)
    assert "<script" not in page
    fetched = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert fetched
    assert all(address.startswith("/") for address in fetched)


def test_a_token_is_asked_for_and_remembered_in_a_cookie(run):
    with here(run, door=Door(None, "s3cret")) as server:
        assert server.ask("GET", "/api/models").status == 401
        assert server.ask("GET", "/static/style.css", Host="any.example").status == 401
        assert server.ask("GET", "/?token=wrong").status == 401
        assert server.post("/api/walk?token=s3cret", {}).status == 401
        bearer = server.ask("GET", "/api/models", Authorization="Bearer s3cret")
        assert bearer.status == 200
        assert server.ask("GET", "/api/models", Authorization="Bearer wröng").status == 401
        entered = server.ask("GET", "//evil.example/?token=s3cret&state=1%20a")
        assert entered.status == 303
        assert entered.headers["location"] == "/evil.example/?state=1+a"
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert server.ask("GET", "/", Cookie=cookie.partition(";")[0]).status == 200
        assert server.ask("GET", "/", Cookie="stochloc=\x01; a").status == 401


def test_other_machines_are_let_in_only_with_a_token():
    with pytest.raises(ValueError, match="needs a --token"):
        Door.of("0.0.0.0", None)
    with pytest.raises(ValueError, match="choose another one"):
        Door.of("192.168.1.5", "")
    with pytest.raises(ValueError, match="printable ASCII"):
        Door.of("127.0.0.1", "a\nb")
    assert Door.of("0.0.0.0", "x").hosts is None
    assert "192.168.1.5" not in (Door.of("127.0.0.1", None).hosts or ())


def test_requests_beyond_those_that_may_run_are_asked_to_come_again(run):
    with here(run, most=1) as server:
        busy = server.send("POST", "/api/walk", LONG_WALK)
        assert busy.getresponse().readline()
        for path in ("walk", "sample"):
            answer = server.post(f"/api/{path}", {"steps": 1})
            assert answer.status == 429
            assert int(answer.headers["retry-after"]) > 0
        assert server.ask("GET", "/api/models").status == 200
        busy.close()
        server.wait_until_idle()
        assert server.post("/api/sample", {"steps": 1}).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("walk", LONG_WALK),
        ("sample", {"n": 1, "length": 512, "steps": 1024, "path": "masked"}),
        ("score", {"text": "the fox " * 400, "path": "masked", "steps": 512, "draws": 64}),
    ],
)
def test_a_client_that_leaves_ends_its_work_within_a_step(run, path, body):
    calls = []
    hook = run.model.transformer.register_forward_hook(lambda *_: calls.append(1))
    with here(run) as server:
        connection = server.send("POST", f"/api/{path}", body)
        if path == "walk":
            assert connection.getresponse().readline()
        while len(calls) < 3:
            time.sleep(0.005)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        server.wait_until_idle(5)
        seen = len(calls)
        time.sleep(0.2)
        assert len(calls) == seen < 500
    hook.remove()


def test_frames_are_sent_as_they_are_computed(run):
    calls = []

    def slow(*_):
        calls.append(1)
        time.sleep(0.1)

    hook = run.model.transformer.register_forward_hook(slow)
    with here(run) as server:
        connection = server.send("POST", "/api/walk", {"length": 8, "steps": 8, "path": "masked"})
        response, seen = connection.getresponse(), []
        for name, data in parsed(line.decode().strip() for line in response):
            if name == "frame":
                seen.append((data["calls"], len(calls)))
        connection.close()
    hook.remove()
    assert len(seen) == 9
    # A frame is read before the second call after its own ends.
    assert all(now <= told + 1 for told, now in seen), seen


def test_an_error_of_our_own_is_told_in_a_sentence_and_traced_in_the_terminal(
    run, monkeypatch, capfd
):
    def fails(*_):
        yield from ()
        raise RuntimeError("secret of the server")

    monkeypatch.setattr(server, "score_events", fails)
    with here(run) as serving:
        answer = serving.post("/api/score", {"text": "a"})
    assert answer.status == 500
    assert answer.headers["content-security-policy"]
    assert answer.json == {"detail": "The server failed at this request; its terminal says more."}
    assert "secret of the server" in capfd.readouterr().err


def test_memory_that_does_not_suffice_is_told(run, monkeypatch):
    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(answers, "score", fails)
    with here(run) as serving:
        answer = serving.post("/api/score", {"text": "a"})
    assert answer.status == 503
    assert "memory" in answer.json["detail"]


def test_the_first_free_port_is_taken_and_a_taken_one_refused():
    with bind("127.0.0.1", None) as first, bind("127.0.0.1", None) as second:
        taken = first.getsockname()[1]
        assert second.getsockname()[1] > taken
        with pytest.raises(ValueError, match="another --port"):
            bind("127.0.0.1", taken)
        assert address_of("0.0.0.0", first, "a b") == f"http://127.0.0.1:{taken}/?token=a+b"
        assert address_of("::1", first, None) == f"http://[::1]:{taken}/"
