"""What all prompt-learning methods share: CLIP, templates, soft prompts, the text tower. Knows no method and no engine.

What needs torch is imported when it is first asked for: templates are read without it.
"""

from importlib import import_module

from basics import UserError

from .templates import (
    SELECTED_TEMPLATES,
    TemplateGroup,
    check_line,
    group_file,
    imagenet_templates,
    read_groups,
    soft_parts,
    template_for,
    word_parts,
)

_NEEDS_TORCH = {
    "activations": ("QuickGELU",),
    "backbones": ("OPENAI_NAMES", "backbone_of", "known_backbone"),
    "clip": ("CLIP", "PRECISIONS", "load_clip", "tokenizer_for", "unit"),
    "insertions": ("Insertions",),
    "plan": ("Plan", "build_plan", "learned"),
    "preprocessing": ("Preprocessing",),
    "soft": ("POSITIONS", "attribute_programs", "context_programs", "hard_programs", "template_programs", "word_programs"),
    "tokens": ("Tokenizer", "encode"),
}
_MODULE_OF = {name: module for module, names in _NEEDS_TORCH.items() for name in names}
__all__ = [
    "SELECTED_TEMPLATES",
    "TemplateGroup",
    "UserError",
    "check_line",
    "group_file",
    "imagenet_templates",
    "read_groups",
    "soft_parts",
    "template_for",
    "word_parts",
    *_MODULE_OF,
]


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
