"""A server on 127.0.0.1 that takes what huggingface_hub sends to a dataset repository, as the Hub does over plain LFS.

It knows the calls of a push and no other: making a repository, checking the card's header, asking how each file is
sent, sending large ones, and the commit. `requests` is its log; whatever it does not know is a 404.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class Hub:
    """The server. Files whose name ends in one of `large` go through LFS."""

    def __init__(self, *, large: tuple[str, ...] = (".parquet", ".tar"), refuses: int | None = None) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []  # method, path, Authorization
        self.large, self.refuses = large, refuses
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def create(self, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)
        assert asked["type"] == "dataset"
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        address = {"url": f"{self.url}/datasets/{name}", "name": name}
        if name in self.repositories:
            return 409, {"error": "You already created this dataset repo", **address}
        self.repositories[name] = Repository(asked.get("private", False) or asked.get("visibility") == "private")
        return 200, address

    def validate(self, body: bytes) -> tuple[int, Any]:
        header = json.loads(body)["content"].split("---\n")[1]
        try:
            wrong = [] if isinstance(yaml.safe_load(header), dict) else ["no keys and values"]
        except yaml.YAMLError as error:
            wrong = [str(error)]
        return (400 if wrong else 200), {"errors": [{"message": text} for text in wrong], "warnings": []}

    def preupload(self, name: str, body: bytes) -> tuple[int, Any]:
        def answer(path: str) -> dict[str, Any]:
            return {
                "path": path,
                "uploadMode": "lfs" if path.endswith(self.large) else "regular",
                "shouldIgnore": False,
            }

        assert name in self.repositories
        return 200, {"files": [answer(file["path"]) for file in json.loads(body)["files"]]}

    def batch(self, name: str, body: bytes) -> tuple[int, Any]:
        assert name in self.repositories
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def commit(self, name: str, body: bytes) -> tuple[int, Any]:
        repository = self.repositories[name]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repository.commits.append(value["summary"])
            elif entry["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert entry["key"] == "lfsFile"
                repository.files[value["path"]] = self.objects[value["oid"]]
        number = f"{len(repository.commits):040x}"
        return 200, {"commitUrl": f"{self.url}/datasets/{name}/commit/{number}", "commitOid": number}

    def put(self, oid: str, body: bytes) -> tuple[int, Any]:
        assert hashlib.sha256(body).hexdigest() == oid
        self.objects[oid] = body
        return 200, {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        path = path.partition("?")[0]
        if self.refuses is not None:
            return self.refuses, {"error": "You do not have the right to do this"}
        if (method, path) == ("POST", "/api/repos/create"):
            return self.create(body)
        if (method, path) == ("POST", "/api/validate-yaml"):
            return self.validate(body)
        if method == "PUT" and path.startswith("/lfs/"):
            return self.put(path.removeprefix("/lfs/"), body)
        for call, before, after in (
            (self.preupload, "/api/datasets/", "/preupload/main"),
            (self.commit, "/api/datasets/", "/commit/main"),
            (self.batch, "/datasets/", ".git/info/lfs/objects/batch"),
        ):
            if method == "POST" and path.startswith(before) and path.endswith(after):
                return call(path.removeprefix(before).removesuffix(after), body)
        return 404, {"error": f"{method} {path} is not known here"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5.0
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self) -> None:
        body = self._body()
        self.hub.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
        status, content = self.hub.answer(self.command, self.path, body)
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_HEAD = _answer  # noqa: N815
