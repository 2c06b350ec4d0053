"""Downloads: over HTTP, resumed where they broke off, and from Google Drive; checksums; the hub's listing."""

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from tqdm import tqdm

from basics import UserError, printable

from .sources import HUB_REPOSITORY

ATTEMPTS = 4
PAUSE = 2.0  # seconds before the second attempt; doubles with each further one
TIMEOUT = 60  # seconds
SLOWEST = 1000  # bytes a second; below this, a server is taken for a dead one
LONGEST_LISTING = 50_000_000  # bytes
CHUNK = 1 << 20
AGENT = {"User-Agent": "Mozilla/5.0 (compatible; python-urllib; dataset download)"}
TRANSIENT = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


class FetchError(Exception):
    """Nothing can be fetched from an address; the next one may work."""


def fetch(url, path, checksum=""):
    """Download `url` to `path`; a part that an earlier attempt left (`path` + ".part") is continued.

    Args:
        url: http(s) address, or `gdrive:ID`.
        checksum: "md5:…", "sha256:…" or "".

    Raises:
        FetchError: the address doesn't answer, the transfer breaks again and again, or the checksum is wrong (then
            nothing of the file is kept).
        UserError: the disk is full, or can't be written.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = path + ".part"
    resumed = os.path.exists(part)
    if url.startswith("gdrive:"):
        _fetch_from_drive(url.removeprefix("gdrive:"), part, resume=bool(checksum))
    else:
        _fetch_with_retries(url, part)
    found = wrong_checksum(part, checksum)
    if found:
        remove(part)
        remove(part + ".tag")
        if resumed:  # the part may have been of another file: once more from the start
            return fetch(url, path, checksum)
        raise FetchError(f"{url}: the checksum is {found}, not {checksum}; the file was deleted")
    os.replace(part, path)
    remove(part + ".tag")


def wrong_checksum(path, checksum):
    """The file's "md5:…" or "sha256:…" where it differs from `checksum`, else None."""
    if not checksum:
        return None
    kind, _, expected = checksum.partition(":")
    digest = hashlib.new(kind)
    with open(path, "rb") as f:
        while chunk := f.read(CHUNK):
            digest.update(chunk)
    return None if digest.hexdigest() == expected.lower() else f"{kind}:{digest.hexdigest()}"


def remove(path):
    """Delete a file if it is there."""
    if os.path.exists(path):
        os.unlink(path)


def _fetch_with_retries(url, part):
    """Get `url` into `part` in at most ATTEMPTS transfers, each going on where the last one broke off."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _transfer(url, part)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                raise FetchError(f"{url}: {reason}") from error
        except TRANSIENT as error:
            if isinstance(getattr(error, "reason", None), socket.gaierror):
                raise FetchError(f"{url}: the address can't be looked up; is there a network?") from error
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        except ValueError as error:  # of a redirection
            raise FetchError(f"{url}: the server answers with an address that isn't one ({error})") from error
        if attempt < ATTEMPTS:
            print(f"  {url}: {printable(reason)}; trying again")
            time.sleep(PAUSE * 2 ** (attempt - 1))
    kept = "; what has arrived is kept and continued next time" if os.path.exists(part) else ""
    raise FetchError(f"{url}: {reason} ({ATTEMPTS} attempts){kept}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to http and https alone, and from https to nothing less."""

    def redirect_request(self, request, response, code, reason, headers, address):
        scheme = address.partition(":")[0].lower()
        if scheme != "https" and not (scheme == "http" and request.type == "http"):
            raise ValueError(f"redirected to {address}")
        return super().redirect_request(request, response, code, reason, headers, address)


def _open(url, **headers):
    """The response to a request, certificates checked."""
    opener = urllib.request.build_opener(_Redirects())
    return opener.open(urllib.request.Request(url, headers={**AGENT, **headers}), timeout=TIMEOUT)


def _transfer(url, part):
    """One transfer into `part`, from its present end where the server says that it is still the same file."""
    have, tag = 0, _read_tag(part)
    if tag:
        have = os.path.getsize(part)
    try:
        response = _open(url, **({"Range": f"bytes={have}-", "If-Range": tag} if have else {}))
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have) and _tag_of(error.headers) in (None, tag):
            return  # all of it had arrived
        remove(part)
        raise ConnectionError("the part that was there doesn't fit the file") from error
    with response:
        if response.status != 206:
            have = 0
        elif _tag_of(response.headers) not in (None, tag) or not _goes_on_at(response.headers, have):
            remove(part)
            raise ConnectionError("the server sends a part of another file")
        length = response.headers.get("Content-Length")
        if length is not None and not re.fullmatch(r"[0-9]{1,18}", length.strip()):
            raise FetchError(f"{url}: the server answers with Content-Length {length!r}")
        total = have + int(length) if length else None
        _write(response, part, have, total, url)
    if total is not None and os.path.getsize(part) < total:
        raise ConnectionError(f"the transfer broke off after {os.path.getsize(part)} of {total} bytes")


def _goes_on_at(headers, have):
    """Whether a partial answer begins at byte `have`."""
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return bool(found) and int(found[1]) == have


def _tag_of(headers):
    """What tells versions of a file apart, byte by byte, or None."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _read_tag(part):
    """The tag of what is in `part`; "" where it isn't known, or nothing is there."""
    try:
        with open(part + ".tag", encoding="utf-8") as f:
            tag = f.read(1000)
    except (OSError, ValueError):
        return ""
    return tag if os.path.exists(part) and tag.isprintable() else ""


def _write(response, part, have, total, url):
    """Append (or, with `have` 0, write) the response's bytes to `part`, with a progress bar."""
    if total and total - have > shutil.disk_usage(os.path.dirname(part)).free:
        raise UserError(f"not enough space for {url} ({total / 1e9:.1f} GB) in {os.path.dirname(part)}")
    tag = _tag_of(response.headers)
    remove(part + ".tag")
    name = os.path.basename(part).removesuffix(".part")
    with (
        open(part, "ab" if have else "wb") as f,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=f"  {name}", disable=None) as bar,
    ):
        if tag:
            with open(part + ".tag", "w", encoding="utf-8") as tag_file:
                tag_file.write(tag)
        for chunk in _chunks(response):
            try:
                f.write(chunk)
            except OSError as error:
                raise UserError(f"cannot write {part}: {error.strerror}") from error
            bar.update(len(chunk))


def _chunks(response):
    """The bytes of a response as they arrive; ConnectionError where in TIMEOUT seconds fewer arrive than at SLOWEST."""
    since, arrived = time.monotonic(), 0
    while chunk := response.read1(CHUNK):
        yield chunk
        arrived += len(chunk)
        seconds = time.monotonic() - since
        if seconds >= TIMEOUT:
            if arrived < SLOWEST * seconds:
                raise ConnectionError(f"{arrived} bytes in {seconds:.0f} s")
            since, arrived = time.monotonic(), 0


def _fetch_from_drive(drive_id, part, resume):
    """Get a file from Google Drive, which gives big files only to those who confirm; gdown does.

    resume: a part that is there is continued; only a checksum can tell then whether it is of this file.
    """
    import gdown

    address = f"https://drive.google.com/uc?id={drive_id}"
    try:
        found = gdown.download(id=drive_id, output=part, quiet=False, resume=resume)
    except Exception as error:  # gdown passes on what requests and the operating system raise, besides its own
        raise FetchError(f"{address}: {' '.join(str(error).split())[:300]}") from error
    if not found or not os.path.exists(part):
        raise FetchError(f"{address}: Google Drive doesn't give the file (its daily quota may be used up)")


def hub_address():
    """The Hugging Face hub, or the mirror that HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def find_on_hub(names):
    """The hub's zip file of a dataset.

    Args:
        names: what its name may be, without case and punctuation.

    Returns:
        (address, checksum, file name), or None where there is no such file.

    Raises:
        FetchError: the hub doesn't answer.
    """
    url = f"{hub_address()}/api/models/{HUB_REPOSITORY}?blobs=true"
    try:
        with _open(url) as response:
            text = b""
            for chunk in _chunks(response):
                text += chunk
                if len(text) > LONGEST_LISTING:
                    raise ValueError(f"more than {LONGEST_LISTING} bytes")
        files = {file["rfilename"]: (file.get("lfs") or {}).get("sha256", "") for file in json.loads(text)["siblings"]}
        files = sorted((str(name), str(sha256)) for name, sha256 in files.items())
    except (*TRANSIENT, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FetchError(f"{url}: no listing of files ({getattr(error, 'reason', error)})") from error
    for name, sha256 in files:
        stem, extension = os.path.splitext(name)
        known = "".join(c for c in stem.lower() if c.isalnum()) in names
        if known and extension == ".zip" and re.fullmatch("[0-9a-f]{64}|", sha256):
            address = f"{hub_address()}/{HUB_REPOSITORY}/resolve/main/{urllib.parse.quote(name)}"
            return address, f"sha256:{sha256}" if sha256 else "", os.path.basename(name)
    return None
