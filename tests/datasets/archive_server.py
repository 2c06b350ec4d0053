"""A server on this machine, and the archives of the miniatures in the layout of the real ones."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile


class Server:
    """Serves `files` (path -> bytes). `breaks`: how often a transfer of a path is cut off in the middle."""

    def __init__(self):
        self.files, self.breaks, self.requests, self.ranges = {}, {}, [], True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request):
        path = request.path.partition("?")[0]
        self.requests.append((path, request.headers.get("Range")))
        if path not in self.files:
            return request.send_error(404)
        content, start = self.files[path], 0
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.ranges and request.headers.get("Range") and request.headers.get("If-Range", tag) == tag:
            start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.end_headers()
                return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("ETag", tag)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        body = content[start:]
        if self.breaks.get(path, 0) > 0:
            self.breaks[path] -= 1
            body = body[: len(body) // 2]
        request.wfile.write(body)

    def starts(self, path):
        """Byte positions from which `path` was asked for."""
        return [int((r or "bytes=0-").removeprefix("bytes=").rstrip("-")) for p, r in self.requests if p == path]


def tree(folder, *paths):
    """{path relative to `folder`: bytes} of the files below `paths`."""
    found = {}
    for path in paths:
        for file in [folder / path] if (folder / path).is_file() else sorted((folder / path).rglob("*")):
            if file.is_file():
                found[file.relative_to(folder).as_posix()] = file.read_bytes()
    return found


def as_tar(files, mode="gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{mode}") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def as_zip(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def under(prefix, files):
    return {prefix + name: content for name, content in files.items()}


def archives_of(name, mini):
    """{target of a source: archive bytes}, in the layout of the real archive."""
    folder = mini.folder
    return {
        "Caltech101": lambda: {
            "101_ObjectCategories": as_zip(
                {
                    "caltech-101/101_ObjectCategories.tar.gz": as_tar(tree(folder, "101_ObjectCategories")),
                    "caltech-101/Annotations.tar": as_tar({}),
                    "__MACOSX/caltech-101/._x": b"junk",
                }
            )
        },
        "DescribableTextures": lambda: {
            "images": as_tar({**under("dtd/", tree(folder, "images")), "dtd/labels/train1.txt": b"x"})
        },
        "EuroSAT": lambda: {"2750": as_zip(tree(folder, "2750"))},
        "FGVCAircraft": lambda: {
            "images": as_tar({"fgvc-aircraft-2013b/README": b"x", **under("fgvc-aircraft-2013b/data/", tree(folder, "."))})
        },
        "Food101": lambda: {"images": as_tar({"food-101/meta/classes.txt": b"x", **under("food-101/", tree(folder, "images"))})},
        "ImageNetA": lambda: {"imagenet-a": as_tar(tree(folder, "imagenet-a"), "")},
        "ImageNetR": lambda: {"imagenet-r": as_tar(tree(folder, "imagenet-r"), "")},
        "ImageNetSketch": lambda: {
            "images": as_zip({name.replace("images/", "sketch/", 1): content for name, content in tree(folder, "images").items()})
        },
        "ImageNetV2": lambda: {mini.images.name: as_tar(tree(folder, mini.images.name))},
        "OxfordFlowers": lambda: {
            "jpg": as_tar(tree(folder, "jpg")),
            "imagelabels.mat": (folder / "imagelabels.mat").read_bytes(),
        },
        "OxfordPets": lambda: {"images": as_tar(tree(folder, "images")), "annotations": as_tar(tree(folder, "annotations"))},
        "SUN397": lambda: {"SUN397": as_tar(tree(folder, "SUN397"))},
        "UCF101": lambda: {"UCF-101-midframes": as_zip(tree(folder, "UCF-101-midframes"))},
        "StanfordCars": lambda: {},
    }[name]()
