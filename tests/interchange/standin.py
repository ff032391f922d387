"""A hub in this process: the parts of its HTTP API for pushing, pulling and downloading, with files in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_standin"


class Hub(ThreadingHTTPServer):
    """Repositories with their commits, each a mapping of files to contents; ``seen`` has all requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, Any]] = {}
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add files to a repository; the new commit."""
        repository = self.repositories[name]
        last = dict(repository["commits"].get(repository["main"], {}))
        whole = {**last, **files}
        sha = hashlib.sha1(repr(sorted(whole.items())).encode()).hexdigest()
        repository["commits"][sha] = whole
        repository["main"] = sha
        return sha

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a revision and its files."""
        repository = self.repositories.get(name)
        if repository is None:
            return None
        sha = repository["main"] if revision == "main" else revision
        return (sha, repository["commits"][sha]) if sha in repository["commits"] else None


class Handler(BaseHTTPRequestHandler):
    """The requests, by method and path."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(f"POST {self.path}")
        if self.path == "/api/validate-yaml":
            return self.validate(json.loads(content)["content"])
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            return self.create(json.loads(content))
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path.partition("?")[0])
        assert found, self.path
        if found[2] == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(content)["files"]
            ]
            return self.answer(200, {"files": files})
        lines = [json.loads(line) for line in content.splitlines() if line.strip()]
        files = {v["path"]: base64.b64decode(v["content"]) for v in (line["value"] for line in lines) if "path" in v}
        sha = self.server.commit(found[1], files)
        return self.answer(
            200, {"success": True, "commitUrl": f"{self.server.url}/{found[1]}/commit/{sha}", "commitOid": sha}
        )

    def validate(self, content: str) -> None:
        try:
            given = yaml.safe_load(content.split("---")[1])
            odd = (
                []
                if isinstance(given.get("tags"), list) and given.get("library_name")
                else ["library_name or tags missing"]
            )
        except (yaml.YAMLError, IndexError, AttributeError) as error:
            odd = [str(error)]
        self.answer(400 if odd else 200, {"errors": [{"message": m} for m in odd], "warnings": []})

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
        if name in self.server.repositories:
            return self.answer(
                409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}
            )
        is_private = asked.get("private", asked.get("visibility") == "private")
        self.server.repositories[name] = {"private": bool(is_private), "commits": {}, "main": ""}
        self.server.commit(name, {".gitattributes": b""})
        return self.answer(200, {"url": f"{self.server.url}/{name}"})

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(?:revision|tree)/([^/]+))?", path):
            return self.info(found[1], found[2] or "main", is_tree="/tree/" in path)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        assert found, self.path
        commit = self.server.at(found[1], found[2])
        if commit is None or found[3] not in commit[1]:
            code = "RepoNotFound" if commit is None else "EntryNotFound"
            return self.answer(404, {"error": "not found"}, {"X-Error-Code": code})
        content = commit[1][found[3]]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.answer(200, content, {"X-Repo-Commit": commit[0], "ETag": etag})

    do_HEAD = do_GET

    def info(self, name: str, revision: str, *, is_tree: bool) -> None:
        commit = self.server.at(name, revision)
        if commit is None:
            return self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if is_tree:
            files = [
                {"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for p, c in commit[1].items()
            ]
            return self.answer(200, files)
        siblings = [{"rfilename": path} for path in commit[1]]
        about = {"id": name, "sha": commit[0], "private": self.server.repositories[name]["private"], "tags": []}
        return self.answer(200, {**about, "downloads": 0, "likes": 0, "siblings": siblings})

    def answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def standin() -> Iterator[Hub]:
    """A hub that runs within the block."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
