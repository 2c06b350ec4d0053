"""Fixtures of the dataset tests."""

import dataclasses
import hashlib

import pytest
from archive_server import Server, archives_of
from miniatures import MINIATURES, write_split

import datasets  # noqa: F401  (registers them)
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from datasets import fetch
from datasets.names import find_dataset


@pytest.fixture
def make_cfg(tmp_path):
    """Function (name, **DATASET keys, seed) -> config whose data folder is the test's own."""

    def make(name, seed=1, **keys):
        cfg = get_cfg_default()
        cfg.DATASET.NAME = name
        cfg.DATASET.ROOT = str(tmp_path)
        cfg.SEED = seed
        for key, value in keys.items():
            cfg.DATASET[key] = value
        return cfg

    return make


@pytest.fixture
def build(make_cfg):
    """Function that builds the dataset of `make_cfg`'s arguments."""

    def make(name, **keys):
        return DATASET_REGISTRY.get(name)(make_cfg(name, **keys))

    return make


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def drive(monkeypatch):
    """Stands for Google Drive: {id: bytes}; an unknown id has used up its quota."""
    files = {}

    def download(id, output, **kwargs):
        if id not in files:
            raise RuntimeError("Too many users have viewed or downloaded this file recently.")
        with open(output, "wb") as f:
            f.write(files[id])
        return output

    monkeypatch.setattr("gdown.download", download)
    return files


@pytest.fixture
def publish(tmp_path, server, drive, monkeypatch):
    """Function: build a miniature elsewhere and serve its archives and files where its sources say they are."""

    def make(name, split=True):
        cls = find_dataset(name)
        mini = MINIATURES[name](tmp_path / "original")
        if split and mini.split_file:
            write_split(mini)
        archives, sources = archives_of(name, mini), []
        for source in cls.sources:
            content = archives.get(source.target)
            if content is None and (mini.folder / source.target).is_file():
                content = (mini.folder / source.target).read_bytes()
            if content is None:
                sources.append(dataclasses.replace(source, urls=()))
            elif source.urls[0].startswith("gdrive:"):
                drive[source.urls[0].removeprefix("gdrive:")] = content
                sources.append(source)
            else:
                server.files[f"/{source.file_name}"] = content
                sources.append(
                    dataclasses.replace(
                        source, urls=(f"{server.url}/{source.file_name}",), checksum=f"md5:{hashlib.md5(content).hexdigest()}"
                    )
                )
        monkeypatch.setattr(cls, "sources", tuple(sources))
        return mini

    return make
