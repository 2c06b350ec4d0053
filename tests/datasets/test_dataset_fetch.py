"""Downloads from servers that change their files, break off, dawdle or answer nonsense."""

import hashlib
import http.server
import json
import threading
import time

import pytest

from datasets import fetch as fetching
from datasets.fetch import FetchError, fetch, find_on_hub


class Scripted:
    """A server whose answers are functions of the request; keeps the requests' headers."""

    def __init__(self):
        self.answers, self.requests = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(dict(self.headers))
                outer.answers[self.path.partition("?")[0]](self)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0)
    server = Scripted()
    yield server
    server.http.shutdown()


def answer(content, status=200, send=None, **headers):
    """Answers with these bytes (the first ``send`` of them) and headers, names with _ for -."""

    def function(request):
        request.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            if value is not None:
                request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content[:send])

    return function


def begin(server, path, content, **headers):
    """A transfer that breaks off in the middle and leaves its part."""
    server.answers["/file"] = answer(content, send=len(content) // 2, **headers)
    with pytest.raises(FetchError, match="broke off"):
        fetch(server.url + "/file", str(path))
    server.requests.clear()


OLD, NEW = b"old" * 1000, b"new" * 1000


@pytest.mark.parametrize("tags", [{}, {"ETag": 'W/"weak"'}])
def test_a_part_of_unknown_version_is_not_continued(server, tmp_path, tags):
    begin(server, tmp_path / "file", OLD, **tags)
    server.answers["/file"] = answer(NEW)
    fetch(server.url + "/file", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == NEW and "Range" not in server.requests[0]


@pytest.mark.parametrize("name, old, new", [("ETag", '"1"', '"2"'), ("Last_Modified", "Mon, 02 Nov 2026 10:00:00 GMT", "x")])
def test_a_server_that_ignores_if_range_is_noticed(server, tmp_path, name, old, new):
    begin(server, tmp_path / "file", OLD, **{name: old})

    def ignores_if_range(request):
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        where = f"bytes {start}-{len(NEW) - 1}/{len(NEW)}" if start else None
        answer(NEW[start:], 206 if start else 200, Content_Range=where, **{name: new})(request)

    server.answers["/file"] = ignores_if_range
    fetch(server.url + "/file", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == NEW and server.requests[0]["If-Range"] == old


@pytest.mark.parametrize("where", ["bytes 0-1499/3000", "bytes 3-1502/3000", None, "nonsense"])
def test_a_part_from_elsewhere_is_not_appended(server, tmp_path, where):
    begin(server, tmp_path / "file", OLD, ETag='"1"')
    parts = iter([answer(OLD[:1500], 206, Content_Range=where, ETag='"1"'), answer(OLD, ETag='"1"')])
    server.answers["/file"] = lambda request: next(parts)(request)
    fetch(server.url + "/file", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == OLD


def test_the_same_version_is_continued(server, tmp_path):
    begin(server, tmp_path / "file", OLD, ETag='"1"')
    server.answers["/file"] = answer(OLD[1500:], 206, Content_Range="bytes 1500-2999/3000", ETag='"1"')
    fetch(server.url + "/file", str(tmp_path / "file"), "sha256:" + hashlib.sha256(OLD).hexdigest())
    assert (tmp_path / "file").read_bytes() == OLD and len(server.requests) == 1


@pytest.mark.parametrize("length", ["abc", "-5", "1" * 40, "5, 5"])
def test_a_length_that_is_none(server, tmp_path, length):
    server.answers["/file"] = answer(OLD, Content_Length=length)
    with pytest.raises(FetchError, match="Content-Length"):
        fetch(server.url + "/file", str(tmp_path / "file"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "to", ["http://[::1", "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x", "http://a b/", "//", "\x1b[31m"]
)
def test_a_redirection_to_nowhere(server, tmp_path, to):
    server.answers["/file"] = answer(b"", 302, Location=to)
    with pytest.raises(FetchError):
        fetch(server.url + "/file", str(tmp_path / "file"))
    assert not list(tmp_path.iterdir())


def test_https_is_not_left():
    request = fetching.urllib.request.Request("https://example.org/file")
    with pytest.raises(ValueError, match="redirected to http:"):
        fetching._Redirects().redirect_request(request, None, 302, "Found", {}, "http://example.org/file")


def test_a_trickle_ends(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT", 0.5)
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)

    def trickles(request):
        answer(b"", Content_Length="1000000")(request)
        try:
            while True:
                request.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            pass

    server.answers["/file"] = trickles
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"\d bytes in \d+ s"):
        fetch(server.url + "/file", str(tmp_path / "file"))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "listing",
    [[], {}, {"siblings": 5}, {"siblings": ["x"]}, {"siblings": [{"rfilename": "a.zip", "lfs": "x"}]}, "not JSON", 3 * [[[]]]],
)
def test_odd_listings(server, monkeypatch, listing):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    text = listing if isinstance(listing, str) else json.dumps(listing)
    server.answers[f"/api/models/{fetching.HUB_REPOSITORY}"] = answer(text.encode())
    with pytest.raises(FetchError, match="no listing of files"):
        find_on_hub({"a"})


@pytest.mark.parametrize("name, sha256", [(5, ""), (None, "0" * 64), ("a.zip", 7), ("a.zip", "../x"), ("b.zip", "0" * 64)])
def test_odd_entries_of_a_listing_are_left_out(server, monkeypatch, name, sha256):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    entries = [{"rfilename": name, "lfs": {"sha256": sha256}}]
    server.answers[f"/api/models/{fetching.HUB_REPOSITORY}"] = answer(json.dumps({"siblings": entries}).encode())
    assert find_on_hub({"a", "5", "none"}) is None


def test_what_a_server_says_is_printed_without_escapes(server, tmp_path, capsys):
    def rude(request):
        request.wfile.write(b"HTTP/1.1 503 \x1b[31mGo away\x1b]0;owned\x07\r\n\r\n")

    server.answers["/file"] = rude
    with pytest.raises(FetchError):
        fetch(server.url + "/file", str(tmp_path / "file"))
    assert "\x1b" not in capsys.readouterr().out
