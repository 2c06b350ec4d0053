"""Downloads: over HTTP, resumed where they broke off, and from Google Drive; checksums; the hub's listing."""

import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request

from tqdm import tqdm

from basics import UserError

from .sources import HUB_REPOSITORY

ATTEMPTS = 4
PAUSE = 2.0  # seconds before the second attempt; doubles with each further one
TIMEOUT = 60
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
        _fetch_from_drive(url.removeprefix("gdrive:"), part)
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
            if error.code < 500 and error.code != 429:
                raise FetchError(f"{url}: the server answers {error.code} {error.reason}") from error
            reason = f"the server answers {error.code} {error.reason}"
        except TRANSIENT as error:
            if isinstance(getattr(error, "reason", None), socket.gaierror):
                raise FetchError(f"{url}: the address can't be looked up; is there a network?") from error
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        if attempt < ATTEMPTS:
            print(f"  {url}: {reason}; trying again")
            time.sleep(PAUSE * 2 ** (attempt - 1))
    kept = "; what has arrived is kept and continued next time" if os.path.exists(part) else ""
    raise FetchError(f"{url}: {reason} ({ATTEMPTS} attempts){kept}")


def _transfer(url, part):
    """One transfer into `part`, from its present end where the server can do that."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers=AGENT)
    if have:
        request.add_header("Range", f"bytes={have}-")
        if os.path.exists(part + ".tag"):  # only continue if the server still has the same file
            with open(part + ".tag", encoding="utf-8") as f:
                request.add_header("If-Range", f.read())
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
            return  # all of it had arrived
        remove(part)
        raise ConnectionError("the part that was there doesn't fit the file") from error
    with response:
        if response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _write(response, part, have, total, url)
    if total is not None and os.path.getsize(part) < total:
        raise ConnectionError(f"the transfer broke off after {os.path.getsize(part)} of {total} bytes")


def _write(response, part, have, total, url):
    """Append (or, with `have` 0, write) the response's bytes to `part`, with a progress bar."""
    if total and total - have > shutil.disk_usage(os.path.dirname(part)).free:
        raise UserError(f"not enough space for {url} ({total / 1e9:.1f} GB) in {os.path.dirname(part)}")
    tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
    remove(part + ".tag")
    if tag and not tag.startswith("W/"):
        with open(part + ".tag", "w", encoding="utf-8") as f:
            f.write(tag)
    name = os.path.basename(part).removesuffix(".part")
    with (
        open(part, "ab" if have else "wb") as f,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=f"  {name}", disable=None) as bar,
    ):
        while chunk := response.read(CHUNK):
            try:
                f.write(chunk)
            except OSError as error:
                raise UserError(f"cannot write {part}: {error.strerror}") from error
            bar.update(len(chunk))


def _fetch_from_drive(drive_id, part):
    """Get a file from Google Drive, which gives big files only to those who confirm; gdown does."""
    import gdown

    address = f"https://drive.google.com/uc?id={drive_id}"
    try:
        found = gdown.download(id=drive_id, output=part, quiet=False, resume=True)
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
        with urllib.request.urlopen(urllib.request.Request(url, headers=AGENT), timeout=TIMEOUT) as response:
            files = json.load(response)["siblings"]
        files = {file["rfilename"]: (file.get("lfs") or {}).get("sha256", "") for file in files}
    except (*TRANSIENT, ValueError, KeyError, TypeError) as error:
        raise FetchError(f"{url}: {getattr(error, 'reason', error)}") from error
    for name, sha256 in sorted(files.items()):
        stem, extension = os.path.splitext(name)
        if extension == ".zip" and "".join(c for c in stem.lower() if c.isalnum()) in names:
            address = f"{hub_address()}/{HUB_REPOSITORY}/resolve/main/{name}"
            return address, f"sha256:{sha256}" if sha256 else "", os.path.basename(name)
    return None
