"""What all prompt-learning methods share: CLIP, templates, soft prompts, the text tower. Knows no method and no engine."""

from basics import UserError

from .clip import CLIP, OPENAI_NAMES, PRECISIONS, load_clip, unit
from .insertions import Insertions
from .plan import Plan, build_plan, learned
from .soft import POSITIONS, context_programs, hard_programs, template_programs, word_programs
from .templates import (
    SELECTED_TEMPLATES,
    TemplateGroup,
    group_file,
    imagenet_templates,
    read_groups,
    soft_parts,
    template_for,
    word_parts,
)
from .tokens import encode

__all__ = [
    "CLIP",
    "Insertions",
    "OPENAI_NAMES",
    "POSITIONS",
    "PRECISIONS",
    "Plan",
    "SELECTED_TEMPLATES",
    "TemplateGroup",
    "UserError",
    "build_plan",
    "context_programs",
    "encode",
    "group_file",
    "hard_programs",
    "imagenet_templates",
    "learned",
    "load_clip",
    "read_groups",
    "soft_parts",
    "template_for",
    "template_programs",
    "unit",
    "word_parts",
    "word_programs",
]
