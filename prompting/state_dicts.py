"""CLIP's weights as people have them: under which entry of a file they lie, and how their tensors are named.

The names used here are OpenAI's (github.com/openai/CLIP, clip/model.py), which open_clip has, too. Training programs put the
state dict beside an optimizer and an epoch, and prefixes before the names; Hugging Face's ``CLIPModel`` has other names, and
the projections of queries, keys and values apart (github.com/huggingface/transformers, models/clip/modeling_clip.py).
"""

import re

import torch

from basics import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # entries in which weights lie; of several, the first is taken
_WRAPPING = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # parts of names that PyTorch adds
_ANCHORS = (  # names that tell where a CLIP begins
    "logit_scale", "visual.conv1.weight", "visual.proj", "visual.class_embedding", "visual.positional_embedding",
    "visual.ln_post.weight", "visual.attnpool.positional_embedding", "vision_model.embeddings.class_embedding",
    "vision_model.embeddings.patch_embedding.weight", "vision_model.post_layernorm.weight", "visual_projection.weight",
    "text_model.final_layer_norm.weight",
)  # fmt: skip
_CONSTANTS = {"input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids"}  # no weights
_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final", "cls_emb")  # the text tower's
_DEEPEST = 4  # entries within entries
_SHOWN = 4  # names in a message


def clip_state(content, path):
    """The state dict of the CLIP in what a weight file holds, named as OpenAI names it.

    Args:
        content: nested containers and tensors.
        path: the file, for messages.

    Raises:
        UserError: there is no CLIP in it, or more than one.
    """
    entries = [(place, _plain_names(tensors, path)) for place, tensors in _mappings(content)]
    found = [(place, tensors, prefixes) for place, tensors in entries if (prefixes := _prefixes(tensors))]
    if not found:
        raise UserError(f"{path} holds no CLIP: {_describe(content, entries)}. Expected {EXPECTED}")
    found.sort(key=lambda entry: _rank(entry[0]))
    (place, tensors, prefixes), others = found[0], found[1:]
    if others and _rank(others[0][0]) == _rank(place):
        raise UserError(
            f"{path} holds several CLIPs, under {_listed([_name(entry[0]) for entry in found])}: save the one to use on its own"
        )
    if len(prefixes) > 1:
        raise UserError(
            f"{path} holds several CLIPs, named {_listed([p + '*' for p in prefixes])}: save the one to use on its own"
        )
    for other in others:
        print(f"Note: {path} has weights under {_name(other[0])}, too; those under {_name(place)} are used")
    (prefix,) = prefixes
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if outside := [name for name in tensors if not name.startswith(prefix)]:
        print(f"Note: {path} has {len(outside)} tensors outside of {prefix}*, which are left out: {_listed(outside)}")
    if any(name.startswith(("vision_model.", "text_model.")) for name in state):
        state = from_hugging_face(state, path)
    if "text.token_embedding.weight" in state:  # where open_clip has the text tower as a module of its own
        state = {name.removeprefix("text."): value for name, value in state.items()}
    return {name: value for name, value in state.items() if name.rpartition(".")[2] not in _CONSTANTS}


EXPECTED = (
    "names as OpenAI's and open_clip's (visual.*, token_embedding.weight, logit_scale …) or Hugging Face's (vision_model.*, "
    "text_model.* …), in the file itself or under one of its entries"
)


def _mappings(content):
    """[(place, {name: tensor})] of every mapping with named tensors in nested containers; a place is a tuple of entries."""
    found, waiting = [], [((), content)]
    while waiting:
        place, value = waiting.pop(0)
        if not isinstance(value, dict) or len(place) > _DEEPEST:
            continue
        tensors = {name: v for name, v in value.items() if isinstance(name, str) and isinstance(v, torch.Tensor)}
        if tensors:
            found.append((place, tensors))
        waiting += [((*place, str(name)), v) for name, v in value.items() if isinstance(v, dict)]
    return found


def _plain_names(tensors, path):
    """Tensors by their names without the parts that PyTorch's wrappers add."""
    plain = {}
    for name, value in tensors.items():
        short = ".".join(part for part in name.split(".") if part not in _WRAPPING)
        if short in plain:
            raise UserError(f"{path} has {short} twice, once as {name}")
        plain[short] = value.detach()
    return plain


def _prefixes(tensors):
    """What stands before the names of the CLIPs among tensors, most names first; a lone ``logit_scale`` beside one is none."""
    votes = {}
    for name in tensors:
        for anchor in _ANCHORS:
            if name == anchor or name.endswith(f".{anchor}"):
                prefix = name.removesuffix(anchor)
                votes[prefix] = votes.get(prefix, 0) + 1
    most = max(votes.values(), default=0)
    return sorted((prefix for prefix in votes if votes[prefix] > 1 or most == 1), key=lambda prefix: -votes[prefix])


def _rank(place):
    """How much an entry is the one that a program saves its weights in; the lower the more."""
    if not place:
        return 0
    return 1 + WRAPPERS.index(place[-1]) if place[-1] in WRAPPERS else len(WRAPPERS) + 1


def _name(place):
    return "/".join(place) if place else "the file itself"


def _listed(names):
    names = [str(name)[:100] for name in names]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _describe(content, entries):
    """What there is instead."""
    if entries:
        return "; ".join(f"{_name(place)} has {len(tensors)} tensors, {_listed(tensors)}" for place, tensors in entries[:3])
    if isinstance(content, dict):
        return f"its entries are {_listed(content)}, without tensors by name" if content else "it is empty"
    if isinstance(content, torch.Tensor):
        return f"it is one tensor, of shape {list(content.shape)}"
    if isinstance(content, (list, tuple, set, str, int, float, bool, type(None))):
        return f"it is a {type(content).__name__}"
    return f"it is an object of {type(content).__module__}.{type(content).__name__}; save its state_dict() instead"


_HUGGING_FACE = [  # pattern of a name, and OpenAI's
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.(weight|bias)", r"visual.ln_pre.\1"),  # their spelling
    (r"vision_model\.post_layernorm\.(weight|bias)", r"visual.ln_post.\1"),
    (r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm\.(weight|bias)", r"ln_final.\1"),
    (r"visual_projection\.weight", "visual.proj"),
    (r"text_projection\.weight", "text_projection"),
]
_HUGGING_FACE_LAYER = re.compile(r"(vision_model|text_model)\.encoder\.layers\.(\d+)\.(.+)")
_PARTS = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
          "self_attn.out_proj": "attn.out_proj"}  # fmt: skip


def from_hugging_face(state, path):
    """State dict of ``CLIPModel`` -> OpenAI's names and layout. UserError: queries without keys or values.

    Names without a counterpart are left as they are.
    """
    converted, apart = {}, {}
    for name, value in state.items():
        if layer := _HUGGING_FACE_LAYER.fullmatch(name):
            tower, number, rest = layer.groups()
            part, _, leaf = rest.rpartition(".")
            block = f"{'visual.' if tower == 'vision_model' else ''}transformer.resblocks.{number}."
            if part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj") and leaf in ("weight", "bias"):
                apart.setdefault(f"{block}attn.in_proj_{leaf}", {})["qkv".index(part[-6])] = value
                continue
            converted[f"{block}{_PARTS[part]}.{leaf}" if part in _PARTS else name] = value
            continue
        ours = next((re.sub(pattern, new, name) for pattern, new in _HUGGING_FACE if re.fullmatch(pattern, name)), name)
        converted[ours] = value.T if name in ("visual_projection.weight", "text_projection.weight") else value
    for name, parts in apart.items():
        if len(parts) < 3 or len({part.shape[1:] for part in parts.values()}) > 1:
            raise UserError(
                f"{path}: the projections of queries, keys and values that make {name} aren't all there, or don't fit"
            )
        converted[name] = torch.cat([parts[i] for i in range(3)])
    return converted


def fitted(state, expected, path, name):
    """A state dict with exactly the names and shapes that a model expects, in the types of its values.

    Args:
        state: as ``clip_state`` gives it.
        expected: {name: tensor} of the model (on any device).
        path: the file, and ``name``, the model's, for messages.

    Raises:
        UserError: names are missing, too many, or have other shapes, or values of another kind (quantised).
    """
    state = dict(state)
    if "text.token_embedding.weight" in expected:
        state = {f"text.{n}" if n.partition(".")[0] in _TEXT else n: value for n, value in state.items()}
    if "logit_bias" not in expected:
        state.pop("logit_bias", None)  # one number for all classes changes no softmax
    for scalar in ("logit_scale", "logit_bias"):
        if scalar in state and scalar in expected and state[scalar].numel() == expected[scalar].numel() == 1:
            state[scalar] = state[scalar].reshape(expected[scalar].shape)
    missing = [n for n in expected if n not in state]
    strange = [n for n in state if n not in expected]
    other = [n for n in state if n in expected and state[n].shape != expected[n].shape]
    kinds = [n for n in state if n in expected and state[n].is_floating_point() != expected[n].is_floating_point()]
    if missing or strange or other or kinds:
        shapes = [f"{n} is {_shape(state[n])} (expected: {_shape(expected[n])})" for n in other]
        faults = [
            f"missing: {_listed(missing)}" if missing else "",
            f"not expected: {_listed(strange)}" if strange else "",
            f"of other shapes: {_listed(shapes)}" if shapes else "",
            f"of another kind of number: {_listed([f'{n} is {state[n].dtype}' for n in kinds])}" if kinds else "",
        ]
        raise UserError(
            f"{path}: the weights don't fit {name}: {len(state) - len(strange) - len(other)} of {len(expected)} tensors do; "
            + "; ".join(filter(None, faults))
        )
    return {n: value.to(expected[n].dtype) for n, value in state.items()}


def _shape(tensor):
    return " x ".join(map(str, tensor.shape)) or "a number"
