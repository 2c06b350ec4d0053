"""The architecture of a CLIP whose weights are in OpenAI's layout, as the names and shapes of its tensors say it.

The number of heads isn't in the shapes: it is that of open_clip's configuration of the same shapes, else 64 channels make a head,
as in all of OpenAI's models.
"""

import math
import re

from basics import UserError

from . import open_clip_parts

_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\..*")
_STAGE = re.compile(r"visual\.layer([1-4])\.(\d+)\..*")
_HEAD = 64  # channels


def config_of(state, path):
    """open_clip's ``model_cfg`` of a state dict.

    Args:
        state: {name: tensor}, as ``clip_state`` gives it.
        path: the file, for messages.

    Raises:
        UserError: the tensors that say it are missing, or contradict each other.
    """
    try:
        (D, E), (V, _) = state["text_projection"].shape, state["token_embedding.weight"].shape
        vision = _resnet(state) if any(map(_STAGE.fullmatch, state)) else _vit(state)
        text = {
            "context_length": len(state["positional_embedding"]), "vocab_size": V, "width": D, "heads": max(1, D // _HEAD),
            "layers": _blocks(state, ""), "mlp_ratio": _mlp_ratio(state, "", D),
        }  # fmt: skip
        layers = vision["layers"] if isinstance(vision["layers"], list) else [vision["layers"]]
        if not all((E, *text.values(), *vision.values(), *layers)):
            raise ValueError("a size of 0")
    except KeyError as e:
        raise UserError(f"{path}: not a complete CLIP in OpenAI's layout: {e.args[0]} is missing") from e
    except (ValueError, TypeError, ZeroDivisionError) as e:  # shapes of other lengths
        raise UserError(f"{path}: not a CLIP in OpenAI's layout: its shapes contradict each other") from e
    config = {"embed_dim": E, "vision_cfg": vision, "text_cfg": text}
    known = [other for other in _open_clips() if _shapes(other) == _shapes(config)]
    heads = {(other["vision_cfg"].get("head_width", _HEAD), other["text_cfg"]["heads"]) for other in known}
    if len(heads) > 1:
        raise UserError(f"{path}: CLIPs of these shapes have different numbers of heads; name the architecture")
    for head_width, text_heads in heads:
        vision["head_width"], text["heads"] = head_width, text_heads
    return config


def differing(config, other):
    """["layers of the image encoder 12 (3)", …]: in which sizes one ``model_cfg`` differs from another (in brackets)."""
    found = []
    for tower, what in (("vision_cfg", "the image encoder"), ("text_cfg", "the text tower")):
        for size in ("layers", "width", "patch_size", "image_size", "context_length", "vocab_size"):
            own, theirs = config[tower].get(size), other[tower].get(size)
            if own != theirs:
                found.append(f"{size} of {what} {own} ({theirs})")
    return found


def _vit(state):
    W, _, P, _ = state["visual.conv1.weight"].shape
    grid = math.isqrt(len(state["visual.positional_embedding"]) - 1)
    return {
        "layers": _blocks(state, "visual."), "width": W, "patch_size": P, "image_size": P * grid,
        "head_width": min(W, _HEAD), "mlp_ratio": _mlp_ratio(state, "visual.", W),
    }  # fmt: skip


def _resnet(state):
    blocks = {(found[1], found[2]) for name in state if (found := _STAGE.fullmatch(name))}
    grid = math.isqrt(len(state["visual.attnpool.positional_embedding"]) - 1)
    width = len(state["visual.layer1.0.conv1.weight"])
    layers = [sum(stage == each for stage, _ in blocks) for each in "1234"]
    return {"layers": layers, "width": width, "image_size": 32 * grid, "head_width": _HEAD}


def _blocks(state, tower):
    return len({found[2] for name in state if (found := _BLOCK.fullmatch(name)) and (found[1] or "") == tower})


def _mlp_ratio(state, tower, width):
    """What the width is multiplied by in an MLP, such that rounding down gives the number of its rows."""
    rows = len(state[f"{tower}transformer.resblocks.0.mlp.c_fc.weight"])
    return rows / width if rows % width == 0 else (rows + 0.5) / width


def _open_clips():
    configs = open_clip_parts.configs().values()
    return [c for c in configs if isinstance(c["vision_cfg"].get("layers"), (int, list)) and "heads" in c["text_cfg"]]


def _shapes(config):
    vision, text = config["vision_cfg"], config["text_cfg"]
    names = ("context_length", "vocab_size", "width", "layers")
    return config["embed_dim"], vision["layers"], vision["width"], vision.get("patch_size"), *(text.get(n) for n in names)
