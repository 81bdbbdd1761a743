"""A hub of one model, owner/name, that speaks the HTTP interface of the real one."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "owner/name"
SHA = "0123456789012345678901234567890123456789"


class StandIn:
    """What the hub holds and what it was asked.

    `files` is None while there is no repository; `may_write` is the token that may write, `refusal`
    a status that every request gets, `silence` holds requests for files back until it is set.
    """

    def __init__(self, files):
        self.files, self.stored = files, {}
        self.may_write, self.refusal, self.url = "secret", None, ""
        self.asked, self.created, self.commits, self.cards = [], [], [], []
        self.silence = threading.Event()
        self.silence.set()

    def commit(self, body):
        """Apply a commit as the hub does: all of it at once."""
        files, header = dict(self.files), None
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "header":
                header = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise AssertionError(line["key"])
        self.files = files
        self.commits.append(header)


@contextmanager
def serving(files):
    """A hub with these files of its model, by name; None for a hub without the model."""
    stand_in = StandIn(files)

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.begin()
            if path is None:
                return
            file = path.removeprefix(f"/{NAME}/resolve/{SHA}/")
            has = stand_in.files or {}
            if stand_in.files is not None and path.startswith(f"/api/models/{NAME}/tree/"):
                self.answer([{"type": "file", "path": name, "size": len(has[name]),
                              "oid": "0" * 40} for name in has])  # fmt: skip
            elif stand_in.files is not None and path in self.model_pages:
                siblings = [{"rfilename": name, "size": len(has[name])} for name in has]
                self.answer({"id": NAME, "modelId": NAME, "sha": SHA, "siblings": siblings})
            elif path.startswith(f"/api/models/{NAME}/revision/") and stand_in.files is not None:
                self.refuse(404, "RevisionNotFound")
            elif file in has:
                stand_in.silence.wait(20)
                self.answer(has[file])
            else:
                self.refuse(404, "RepoNotFound")

        do_HEAD = do_GET
        model_pages = (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/main",
                       f"/api/models/{NAME}/revision/{SHA}")  # fmt: skip

        def do_POST(self):
            path = self.begin()
            body = self.read()
            if path is None:
                return
            if self.headers.get("Authorization") != f"Bearer {stand_in.may_write}":
                self.refuse(403, "Forbidden")
            elif path == "/api/validate-yaml":
                stand_in.cards.append(json.loads(body)["content"])
                self.answer({"errors": [], "warnings": []})
            elif path == "/api/repos/create":
                stand_in.created.append(json.loads(body))
                stand_in.files = stand_in.files or {}
                self.answer({"url": f"{stand_in.url}/{NAME}"})
            elif path == f"/api/models/{NAME}/preupload/main":
                self.answer({"files": [
                    {"path": one["path"], "shouldIgnore": False,
                     "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular"}
                    for one in json.loads(body)["files"]
                ]})  # fmt: skip
            elif path == f"/{NAME}.git/info/lfs/objects/batch":
                stand_in.silence.wait(20)
                self.answer({"transfer": "basic", "objects": [
                    {**one, "actions": {"upload": {"href": f"{stand_in.url}/store/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]})  # fmt: skip
            elif path == f"/api/models/{NAME}/commit/main":
                stand_in.commit(body)
                self.answer({"commitUrl": f"{stand_in.url}/{NAME}/commit/{SHA}",
                             "commitOid": SHA, "success": True})  # fmt: skip
            else:
                self.refuse(404, "RepoNotFound")

        def do_PUT(self):
            path, body = self.begin(), self.read()
            assert path is not None and path == f"/store/{hashlib.sha256(body).hexdigest()}"
            stand_in.stored[path.removeprefix("/store/")] = body
            self.answer({})

        def begin(self):
            path = self.path.split("?")[0]
            stand_in.asked.append((self.command, path))
            if status := stand_in.refusal:
                self.read()
                self.refuse(status, "")
                return None
            return path

        def read(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def refuse(self, status, code):
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, content):
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("X-Repo-Commit", SHA)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            """A client that has gone away is what a time limit is about."""

    with Server(("127.0.0.1", 0), Hub) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield stand_in
        finally:
            stand_in.silence.set()
            server.shutdown()
