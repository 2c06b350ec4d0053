"""Weight files of CLIP: read without running code, compared with the checksum that is known of them, and hashed.

A checksum is known of OpenAI's files (their URLs hold it), of files in the Hugging Face Hub's folders (they are named by it, or a
file beside them holds it), of files named in a ``SHA256SUMS`` beside them (the built-in model's), and of every part of a file
that PyTorch has written. Of other files the hash is recorded, so that two runs can be compared.
"""

import os
import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from basics import UserError, kept
from basics.hashes import file_hash
from basics.safe_pickle import check_archive, holds_torchscript, safe_torch_load

from .state_dicts import clip_state
from .torchscript import read_torchscript

OPENAI_CHECKSUMS = {  # file: SHA-256, as in the addresses that github.com/openai/CLIP, clip/clip.py, has
    "RN50.pt": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101.pt": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4.pt": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16.pt": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64.pt": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B-32.pt": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B-16.pt": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L-14.pt": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L-14-336px.pt": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
}
_IN_FOLDERS = (  # what open_clip, the Hub and transformers call a model's weights; of several, the first is taken
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_file(path, expected="", whose=""):
    """Compare a weight file with what is known of it.

    Args:
        path: the file.
        expected: its SHA-256 (hex), where the caller knows it, and ``whose``, the publisher.

    Returns:
        {"file", "sha256", "checked"}: absolute path, hash, and what it was compared with ("" for nothing).

    Raises:
        UserError: the file isn't what it should be, or can't be read.
    """
    path = os.path.abspath(path)
    if not expected:
        expected, whose = _known(path)
    found = kept_file_hash(path)
    if expected and found != expected:
        raise UserError(
            f"{path} has a wrong checksum (sha256 {found[:12]}…, but {whose} says {expected[:12]}…): damaged, or an interrupted "
            "download? Delete it and fetch it again, or name another file with MODEL.BACKBONE.PATH"
        )
    if not expected and zipfile.is_zipfile(path):
        whose = _check_parts(path)
    print(f"Weights: {path}, sha256 {found[:12]}… ({f'as {whose} says' if whose else 'no checksum is known to compare it with'})")
    return {"file": path, "sha256": found, "checked": whose}


def kept_file_hash(path):
    """SHA-256 (hex) of a file, computed once until the file changes: weights are large."""
    mark = kept.stamp(path)
    known = kept.recall("file", mark) if mark else None
    if known is None:
        known = file_hash(path)
        if mark and kept.stamp(path) == mark:
            kept.keep("file", mark, known)
    return known


def _known(path):
    """(SHA-256, whose) of a file, ("", "") where nobody tells it."""
    blob = os.path.realpath(path)  # the Hub's cache names a file by its hash and links to it
    if os.path.basename(os.path.dirname(blob)) == "blobs" and _SHA256.fullmatch(os.path.basename(blob)):
        return os.path.basename(blob), "the Hub"
    folder, name = os.path.split(path)
    listed = _lines(os.path.join(folder, "SHA256SUMS"))
    for line in listed:
        digest, _, listed_name = line.partition(" ")
        if listed_name.strip(" *") == name and _SHA256.fullmatch(digest):
            return digest, "SHA256SUMS beside it"
    fetched = _lines(os.path.join(folder, ".cache", "huggingface", "download", name + ".metadata"))  # commit, hash, time
    if len(fetched) > 1 and _SHA256.fullmatch(fetched[1]):
        return fetched[1], "the Hub"
    if name in OPENAI_CHECKSUMS and is_torchscript(path):
        return OPENAI_CHECKSUMS[name], "OpenAI"
    return "", ""


def _lines(path):
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _check_parts(path):
    """Compare each part of an archive, once until it changes, with the checksum in it: PyTorch doesn't. UserError: damaged."""
    mark = kept.stamp(path)
    if mark and kept.recall("parts", mark):
        return "the file itself"
    try:
        with open(path, "rb") as file:
            check_archive(file)
    except Exception as e:  # damaged archives raise whatever their bytes happen to say
        raise UserError(f"{path} is damaged, or not as PyTorch writes it: {first_line(e)}; fetch or write it again") from e
    if mark and kept.stamp(path) == mark:
        kept.keep("parts", mark, True)
    return "the file itself"


def check_finite_weights(state, where):
    """UserError for a tensor of a state dict that isn't finite: weights are numbers, so the file is damaged."""
    for name, tensor in state.items():
        if not tensor.is_floating_point() or torch.isfinite(tensor.sum(dtype=torch.float64)):  # a sum is cheap
            continue
        if not torch.isfinite(tensor).all():
            raise UserError(f"{where}: {name} holds values that are not finite (infinite or NaN): damaged weights")


def is_torchscript(path):
    """Whether a file is a TorchScript archive, as OpenAI's are."""
    try:
        with zipfile.ZipFile(path) as archive:
            return holds_torchscript(archive)
    except Exception:  # no zip, or a damaged one, which raises whatever its bytes happen to say: its reader says so
        return False


def read_weights(path):
    """What is in a safetensors file, a TorchScript archive (its state dict), or a file of ``torch.save``; nothing is executed.

    Raises:
        UserError: it is none of these, is damaged, or wants to run code.
    """
    path = str(path)
    try:
        if is_safetensors(path):
            return load_file(path)
        return read_torchscript(path) if is_torchscript(path) else safe_torch_load(path)
    except (UserError, SafetensorError, OSError, ValueError) as e:
        raise UserError(
            f"{path} cannot be read as CLIP weights ({first_line(e).removeprefix(f'{path}: ')}). Expected: OpenAI's TorchScript "
            "archive, a state dict saved by torch.save, or a .safetensors file. Is the file complete?"
        ) from e


def read_clip(path):
    """State dict of the CLIP in a weight file, named as OpenAI names its tensors.

    Raises:
        UserError: see ``read_weights`` and ``clip_state``.
    """
    return clip_state(read_weights(path), path)


def is_safetensors(path):
    """Whether a file is named or begins as safetensors: eight bytes, the length of the JSON behind them."""
    try:
        with open(path, "rb") as file:
            head = file.read(9)
            return path.endswith(".safetensors") or (
                head[8:] == b"{" and int.from_bytes(head[:8], "little") < os.fstat(file.fileno()).st_size
            )
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from e


def weights_in(folder):
    """The file of weights in a model's folder. UserError: there is none, or several that may be meant."""
    names = sorted(file.name for pattern in ("*.safetensors", "*.bin", "*.pth", "*.pt") for file in Path(folder).glob(pattern))
    preferred = [name for name in _IN_FOLDERS if name in names]
    if not names:
        raise UserError(f"{folder} has no weights: expected {_IN_FOLDERS[0]}, or another .safetensors, .bin, .pth or .pt file")
    if not preferred and len(names) > 1:
        raise UserError(
            f"{folder} has several files of weights ({', '.join(names[:4])}{' …' if len(names) > 4 else ''}): name one with "
            f"MODEL.BACKBONE.PATH, or call it {_IN_FOLDERS[0]}"
        )
    return str(Path(folder) / [*preferred, *names][0])


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
