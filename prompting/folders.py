"""Models in folders: open_clip's format, Hugging Face's ``CLIPModel``, and those that the Hub has (``hf-hub:org/model``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from basics import UserError, home, read_json

from .reach import hub_at_hand

HUB, LOCAL = "hf-hub:", "local-dir:"  # open_clip's prefixes
CONFIGS = ("open_clip_config.json", "config.json")  # of several, the first says what the model is
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")
_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8, "vocab_size": 49408,
         "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407}  # fmt: skip
_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224,
           "patch_size": 32, "num_channels": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}  # fmt: skip
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL's numbers


def model_folder(name: str) -> Path | None:
    """The folder that a backbone's name means, relative to the working directory or the project's root; None for other names.

    A name of the Hub's is the folder in its cache, into which the configuration is fetched.

    Raises:
        UserError: the folder isn't there or has no configuration, or the Hub has none and none is in its cache.
    """
    if name.startswith(HUB):
        return Path(from_hub(name, CONFIGS)).parent
    path = name.removeprefix(LOCAL)
    for folder in (Path(path), home.PROJECT / path):
        if any((folder / file).is_file() for file in CONFIGS):
            return folder
    if name.startswith(LOCAL) or (Path(path).is_dir() and path):
        what = "a folder without" if path and Path(path).is_dir() else "no folder with"
        raise UserError(
            f"{name}: {path or 'nothing'} is {what} {' or '.join(CONFIGS)}: not a model in open_clip's or Hugging Face's format"
        )
    return None


def from_hub(name: str, files: tuple[str, ...]) -> str:
    """Path in the Hub's cache of the first of ``files`` that ``hf-hub:org/model[@revision]`` has, fetched if need be."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = name.removeprefix(HUB).partition("@")
    reason = f"it has none of {', '.join(files)}"
    with hub_at_hand() as why:
        for file in files:
            try:
                return hf_hub_download(repo, file, revision=revision or None)
            except HFValidationError as e:
                raise UserError(f"{name} isn't hf-hub:organisation/model: {_first_line(e)}") from e
            except LocalEntryNotFoundError as e:  # no network, and not in the cache
                reason = why or _first_line(e)
            except EntryNotFoundError:
                continue
            except Exception as e:  # the repository isn't there, or is gated; the network fails in many ways
                reason = why or _first_line(e)
    raise UserError(
        f"{name}: not in the Hub's cache, and it can't be fetched ({reason}). Put the model into a folder on a machine with "
        "network (hf download), and name that"
    )


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def folder_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None, Path]:
    """(open_clip's ``model_cfg``, its ``preprocess_cfg`` or None where nothing says it, the file) of a model's folder.

    Raises:
        UserError: the configuration can't be read, or means something that isn't computed here.
    """
    file = next(folder / name for name in CONFIGS if (folder / name).is_file())
    content = read_json(file)
    try:
        if file.name == CONFIGS[0]:
            content["model_cfg"]["text_cfg"].get("vocab_size"), content["model_cfg"]["vision_cfg"].get("image_size")
            return content["model_cfg"], content.get("preprocess_cfg") or {}, file
        return _transformers(content, file), _transformers_images(folder), file
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as e:
        raise UserError(f"{file} is no configuration of a CLIP: {type(e).__name__}: {_first_line(e)}") from e


def _transformers(content, file):
    """``model_cfg`` of a ``CLIPConfig`` (github.com/huggingface/transformers, models/clip/configuration_clip.py)."""
    if content.get("model_type") != "clip":
        raise UserError(
            f"{file}: model_type {content.get('model_type')!r}: of Hugging Face's models only type clip is computed here"
        )
    text, vision = {**_TEXT, **(content.get("text_config") or {})}, {**_VISION, **(content.get("vision_config") or {})}
    acts = {text["hidden_act"], vision["hidden_act"]}
    for key, found, computed in (
        ("hidden_act", sorted(acts), (["gelu"], ["quick_gelu"])),
        ("layer_norm_eps", [text["layer_norm_eps"], vision["layer_norm_eps"]], ([1e-5, 1e-5],)),
        ("num_channels", vision["num_channels"], (3,)),
        ("eos_token_id", text["eos_token_id"], (2, text["vocab_size"] - 1)),  # 2: the highest token of a prompt
    ):
        if found not in computed:
            raise UserError(f"{file}: {key} {found!r} isn't computed here; CLIP has {' or '.join(map(repr, computed))}")
    W, D = vision["hidden_size"], text["hidden_size"]
    return {
        "embed_dim": content.get("projection_dim", 512),
        "quick_gelu": acts == {"quick_gelu"},
        "vision_cfg": {
            "layers": vision["num_hidden_layers"], "width": W, "head_width": W // vision["num_attention_heads"],
            "mlp_ratio": vision["intermediate_size"] / W, "patch_size": vision["patch_size"], "image_size": vision["image_size"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"], "vocab_size": text["vocab_size"], "width": D,
            "heads": text["num_attention_heads"], "layers": text["num_hidden_layers"], "mlp_ratio": text["intermediate_size"] / D,
        },
    }  # fmt: skip


def _transformers_images(folder):
    """``preprocess_cfg`` of a ``CLIPImageProcessor``'s settings; None where there are none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            content = content.get("image_processor", content) if name.startswith("processor") else content
            break
    else:
        return None
    size, crop = content.get("size", 224), content.get("crop_size", 224)
    shortest = size if isinstance(size, int) else size.get("shortest_edge")
    crop = [crop, crop] if isinstance(crop, int) else [crop["height"], crop["width"]]
    cut = content.get("do_center_crop", True)
    if shortest and cut and crop == [shortest, shortest]:
        mode = "shortest"
    elif not shortest and size.get("height") == size.get("width") and (not cut or crop == [size["height"], size["width"]]):
        mode = "squash"
    else:
        raise UserError(f"{folder / name}: size {size!r} and crop_size {crop!r}: images that aren't computed here")
    if content.get("resample", 3) not in _RESAMPLE or not all(
        content.get(f"do_{what}", True) for what in ("normalize", "resize", "rescale")
    ):
        raise UserError(f"{folder / name}: images that aren't computed here (resample, do_normalize, do_resize, do_rescale)")
    return {"mean": content.get("image_mean"), "std": content.get("image_std"), "resize_mode": mode,
            "interpolation": _RESAMPLE[content.get("resample", 3)]}  # fmt: skip
