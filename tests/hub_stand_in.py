"""A stand-in for the Hugging Face Hub on this machine: repositories that are made, pushed and fetched."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_stand_in"


class _Handler(BaseHTTPRequestHandler):
    """The calls of `huggingface_hub` that pushing and fetching a model need."""

    protocol_version = "HTTP/1.1"
    repositories: dict[str, dict[str, bytes]]  # name -> path -> content
    said: list[dict[str, Any]]  # the headers of commits, and what repositories were asked for

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid username or password."}, 401)
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.said.append(asked)
            self.repositories.setdefault(name, {})
            self._answer({"url": f"{self._address}/{name}"})
        elif parts == ["api", "validate-yaml"]:  # the header of a model card
            self._answer({"errors": [], "warnings": []})
        elif parts[4] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        else:  # a commit: a line of JSON for its header, and one for each file
            files = self.repositories["/".join(parts[2:4])]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "header":
                    self.said.append(line["value"] | {"revision": parts[5]})
                else:
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self._address}/{'/'.join(parts[2:4])}/commit/{self._sha}"
            self._answer({"success": True, "commitOid": self._sha, "commitUrl": url})

    def do_GET(self) -> None:
        parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
        is_api = parts[0] == "api"
        name = "/".join(parts[2:4] if is_api else parts[:2])
        if name not in self.repositories:
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif is_api and "tree" in parts:
            files = self.repositories[name].items()
            self._answer([
                {"type": "file", "path": path, "size": len(data), "oid": _oid(data)}
                for path, data in files
            ])  # fmt: skip
        elif is_api:
            siblings = [{"rfilename": path} for path in self.repositories[name]]
            self._answer({"id": name, "modelId": name, "sha": self._sha, "siblings": siblings})
        else:  # owner/name/resolve/revision/path
            data = self.repositories[name]["/".join(parts[4:])]
            headers = {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": self._sha}
            self._answer(data, 200, headers)

    def do_HEAD(self) -> None:
        self.do_GET()

    @property
    def _address(self) -> str:
        return f"http://{self.headers['Host']}"

    @property
    def _sha(self) -> str:
        return hashlib.sha1(repr(sorted(self.repositories)).encode()).hexdigest()

    def _answer(self, content: Any, status: int = 200, headers: Any = ()) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def stand_in() -> Iterator[tuple[str, type[_Handler]]]:
    """A running stand-in: its address for HF_ENDPOINT, and what it holds."""
    handler = type("Handler", (_Handler,), {"repositories": {}, "said": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
