"""Whether a server answers at all, found out in seconds: the Hub's client tries for three quarters of a minute."""

import contextlib
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator

SECONDS = 4.0  # to find a name's address and to connect to it


def unreachable(url: str) -> str:
    """Why the server of a URL can't be reached, in words; "" where it answers. A proxy stands for all that it serves."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    host, port = parts.hostname, parts.port or {"http": 80}.get(parts.scheme, 443)
    answers: list[str] = []

    def connect():
        try:
            socket.create_connection((host, port), SECONDS).close()
            answers.append("")
        except OSError as e:
            answers.append(e.strerror or str(e))

    asking = threading.Thread(target=connect, daemon=True)  # looking up a name has no time limit of its own
    asking.start()
    asking.join(SECONDS)
    said = answers[0] if answers else f"no answer in {SECONDS:g} seconds"
    return f"{host} can't be reached: {said}" if said else ""


@contextlib.contextmanager
def hub_at_hand() -> Iterator[str]:
    """In this block the Hub's client takes files from its cache alone where the Hub can't be reached; yields why, or ""."""
    from huggingface_hub import constants

    why = "" if constants.HF_HUB_OFFLINE else unreachable(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or bool(why)
    try:
        yield why
    finally:
        constants.HF_HUB_OFFLINE = before
