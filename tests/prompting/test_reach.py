"""Weights that aren't there, and a Hub that doesn't answer: told in seconds, with what to do; what is in the cache is used."""

import errno
import socket
import threading
import time

import pytest
from huggingface_hub import constants

from basics import UserError
from prompting import load_clip
from prompting.reach import SECONDS, hub_at_hand, unreachable
from tests.prompting.test_folders import BUILTIN, hub  # noqa: F401  (a fixture)

NAMES = {  # backbone: what its message says to do
    "ViT-B/16": "Fetch the file on a machine with network (OpenAI's file is ViT-B-16.pt) and pass MODEL.BACKBONE.PATH",
    "ViT-B-16/laion2b_s34b_b88k": "Fetch the file on a machine with network and pass MODEL.BACKBONE.PATH",
    "hf-hub:organisation/model": "Put the model into a folder on a machine with network (hf download), and name that",
}


@pytest.fixture
def network(monkeypatch, tmp_path):
    """Function: in which way there is no network; the caches are empty."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "hub"), raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    end = threading.Event()

    def fail(way):
        if way == "closed":
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))
                monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        elif way == "no names":

            def unknown(*args, **kwargs):
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

            monkeypatch.setattr(socket, "getaddrinfo", unknown)
        elif way == "no route":

            def no_route(*args, **kwargs):
                raise OSError(errno.ENETUNREACH, "Network is unreachable")

            monkeypatch.setattr(socket.socket, "connect", no_route)
        else:

            def silent(*args, **kwargs):
                end.wait()
                raise socket.gaierror(socket.EAI_AGAIN, "the test has ended")

            monkeypatch.setattr(socket, "getaddrinfo", silent)

    yield fail
    end.set()


WAYS = {
    "closed": "127.0.0.1 can't be reached: Connection refused",
    "no names": "huggingface.co can't be reached: Temporary failure in name resolution",
    "silent": f"huggingface.co can't be reached: no answer in {SECONDS:g} seconds",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_it_is_told_in_seconds(way, name, network):
    network(way)
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        load_clip(name)
    assert WAYS[way] in str(error.value) and NAMES[name] in str(error.value) and "\n" not in str(error.value)
    assert time.monotonic() - start < SECONDS + 20  # the Hub's client alone takes 48; the rest is for a busy machine


def test_no_route(network):
    network("no route")
    assert unreachable("https://93.184.216.34/") == "93.184.216.34 can't be reached: Network is unreachable"


def test_what_is_in_the_cache_is_used(hub, network, tmp_path):  # noqa: F811
    hub(BUILTIN)
    network("no names")
    assert load_clip("hf-hub:org/model").weights["checked"] == "the Hub"
    assert constants.HF_HUB_OFFLINE is False  # only for the moment


def test_a_server_that_answers_and_a_proxy(monkeypatch, network):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", f"http://{address}")
        with hub_at_hand() as why:
            assert why == "" and constants.HF_HUB_OFFLINE is False
        monkeypatch.setenv("https_proxy", address)  # stands for what it serves
        assert unreachable("https://nowhere.invalid/") == ""
    assert "127.0.0.1 can't be reached" in unreachable("https://nowhere.invalid/")
