"""A stand-in for the Hugging Face Hub: repositories of small files, as its client asks for them."""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """Attributes: ``repositories``, {name: {path: bytes}}; ``private``, {name: bool}; ``asked``, paths of all requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.private, self.asked = {}, {}, []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Nothing."""

    def answer(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append(path)
        if path.startswith("api/models/"):  # version 0.34 of the client asks what a repository is
            name = "/".join(path.split("/")[2:4])
            if name in self.server.repositories:
                return self.answer({"id": name, "sha": COMMIT, "siblings": []})
        name, mark, rest = path.partition("/resolve/")
        files = self.server.repositories.get(name)
        if files is None:
            return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        file = rest.partition("/")[2]
        if file not in files:
            return self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
        return self.answer(files[file], ETag=f'"{hashlib.sha1(files[file]).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET

    def do_POST(self):
        path = urlsplit(self.path).path.strip("/")
        self.server.asked.append(path)
        body = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self.chunks()
        if not self.headers.get("Authorization"):
            return self.answer({"error": "Invalid username or password."}, 401)
        if path == "api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.server.repositories.setdefault(name, {})
            self.server.private[name] = bool(asked.get("private")) or asked.get("visibility") == "private"
            return self.answer({"url": f"{self.server.address}/{name}"})
        if path == "api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        name = "/".join(path.split("/")[2:4])
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer(
            {"commitUrl": f"{self.server.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "commitMessage": ""}
        )

    def chunks(self):
        """The body of a request that is sent in chunks."""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


@contextlib.contextmanager
def running():
    """A Hub that answers in a thread."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
