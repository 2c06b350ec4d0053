"""A state dict in OpenAI's names, as other libraries and training programs would have saved it."""

import re

import torch

LAYER = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
PARTS = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
         "attn.out_proj": "self_attn.out_proj"}  # fmt: skip
NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight", "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight", "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight", "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}  # fmt: skip


def hugging_face(state):
    """As ``CLIPModel.state_dict()`` of older versions of transformers, which had position_ids among the weights."""
    theirs = {"text_model.embeddings.position_ids": torch.arange(len(state["positional_embedding"]))[None]}
    theirs["vision_model.embeddings.position_ids"] = torch.arange(len(state["visual.positional_embedding"]))[None]
    for name, value in state.items():
        if layer := LAYER.fullmatch(name):
            tower, number, rest = layer.groups()
            prefix = f"{'vision' if tower else 'text'}_model.encoder.layers.{number}."
            if rest.startswith("attn.in_proj_"):
                for letter, part in zip("qkv", value.chunk(3), strict=True):
                    theirs[f"{prefix}self_attn.{letter}_proj.{rest.rpartition('_')[2]}"] = part.clone()
            else:
                part, _, leaf = rest.rpartition(".")
                theirs[f"{prefix}{PARTS[part]}.{leaf}"] = value
        elif name in ("visual.proj", "text_projection"):
            theirs["visual_projection.weight" if name == "visual.proj" else "text_projection.weight"] = value.T.contiguous()
        else:
            theirs[NAMES[name]] = value
    return theirs


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def compiled(state):
    """Each block compiled and wrapped on its own, as FSDP does."""
    return {re.sub(r"(resblocks\.\d+)\.", r"\1._orig_mod._fsdp_wrapped_module.", name): v for name, v in state.items()}


TRAINED = {  # what training programs write around a state dict
    "DataParallel": lambda s: {"state_dict": prefixed("module.", s), "epoch": 3},
    "open_clip": lambda s: {"epoch": 3, "name": "x", "state_dict": prefixed("module.", s),
                            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]}},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}, "loss": 0.5},
    "model": lambda s: {"model": s, "args": {"lr": 0.1}},
    "Lightning, model": lambda s: {"state_dict": prefixed("model.", s), "pytorch-lightning_version": "2.5", "global_step": 7},
    "Lightning, net": lambda s: {"state_dict": prefixed("net.", s), "hyper_parameters": {"lr": 0.1}},
    "Lightning, clip": lambda s: {"state_dict": {**prefixed("clip.", s), "criterion.weight": torch.ones(3)}},
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "compiled DDP": lambda s: {"state_dict": prefixed("module._orig_mod.model.", s)},
    "blocks compiled": compiled,
    "entries beside the weights": lambda s: {**s, "epoch": 3, "optimizer": {"state": {}}, "name": "mine"},
    "averages beside": lambda s: {"state_dict_ema": {n: v * 0 for n, v in s.items()}, "state_dict": s},
    "nested": lambda s: {"checkpoint": {"model": prefixed("backbone.clip.", s)}},
    "Hugging Face": hugging_face,
    "Hugging Face in Lightning": lambda s: {"state_dict": prefixed("model.clip.", hugging_face(s))},
    "half": lambda s: {n: v.half().float().half() if v.is_floating_point() else v for n, v in s.items()},
    "parameters": lambda s: {n: torch.nn.Parameter(v) if v.is_floating_point() else v for n, v in s.items()},
    "text apart": lambda s: {n if n.startswith("visual.") or n == "logit_scale" else f"text.{n}": v for n, v in s.items()},
    "one scale": lambda s: {**s, "logit_scale": s["logit_scale"].reshape(1)},
    "constants": lambda s: {**s, "input_resolution": torch.tensor(32), "context_length": torch.tensor(77),
                            "vocab_size": torch.tensor(49408), "logit_bias": torch.tensor(-10.0)},
}  # fmt: skip
