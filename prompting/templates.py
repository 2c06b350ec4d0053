"""Hard prompt templates: the published table of each method, and files of template groups.

A group file holds groups of templates, one template a line, groups separated by a blank line. ``#`` starts a comment; a
comment right above a group is the group's name. Every template has exactly one ``{}``, where the class name goes.
"""

from dataclasses import dataclass
from pathlib import Path

from basics import UserError

from .tokens import EOT, encode, readable

TEMPLATE_FOLDER = Path(__file__).resolve().parents[1] / "templates"
GENERIC = "a photo of a {}."

# CoOp's table (repository CoOp, zero-shot CLIP); any other dataset takes GENERIC
CUSTOM_TEMPLATES = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
    "Textures": "a photo of a {} texture.",
}
# what the repositories KgCoOp and Prompt-align (ProGrad) say differently
KGCOOP_TEMPLATES = {**CUSTOM_TEMPLATES, "DescribableTextures": "a photo of a {}, a type of texture."}
PROGRAD_TEMPLATES = {
    **CUSTOM_TEMPLATES,
    "OxfordPets": "a type of pet, a photo of a {}.",
    "OxfordFlowers": "a type of flower, a photo of a {}.",
    "FGVCAircraft": "a type of aircraft, a photo of a {}.",
    "DescribableTextures": "a texture of {}.",
    "Food101": "a type of food, a photo of {}.",
}
# the seven templates that CLIP's authors found to do almost as well as all eighty (repository CLIP, notebook on prompts)
SELECTED_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

_FILE_NAMES = {"describabletextures": "dtd"}  # every other file is called after its dataset


def template_for(dataset, table=CUSTOM_TEMPLATES):
    """The hard template of a dataset (registry name) in a method's table."""
    return table.get(dataset, GENERIC)


def hard_tokens(template, classnames):
    """BPE ids of ``template`` filled with every class name: [C] lists, without start and end token."""
    return [encode(template.replace("{}", readable(name))) for name in classnames]


@dataclass(frozen=True)
class TemplateGroup:
    """A named group of templates; its first template initialises the group's expert."""

    name: str
    templates: tuple


def soft_parts(template):
    """BPE ids that become learnable vectors before and after the class name, and the frozen rest (the final full stop).

    "a close-up photo of a {}." gives 7 ids before, none after, and the stop; "{} texture." none before and one after.
    """
    before, after = template.split("{}")
    after = after.rstrip()
    stop = encode(".") if after.endswith(".") else []
    return encode(before), encode(after[:-1] if stop else after), stop


def word_parts(template):
    """(words before, BPE ids of the vectors before, words after, ids after the class name) as MoCoOp's released code counts.

    That code makes one vector for each word, where words are what blanks separate, and takes the vectors' values from the
    tokenised words in order; where there are more words than tokens, the end token and what follows it are taken. So
    "a close-up photo of a" (5 words, 7 tokens) learns its first 5 tokens, and " texture" (2 words, one of them empty, 1
    token) starts from "texture" and the end token. All full stops of the template are dropped.
    """
    before, after = template.replace(".", "").split("{}")
    before = before[:-1]  # the blank before the class name
    counts = [len(part.split(" ")) if part else 0 for part in (before, after)]
    ids = [[*encode(part), EOT, *[0] * n][:n] for part, n in zip((before, after), counts)]
    return before, ids[0], after, ids[1]


def group_file(dataset):
    """The group file of a dataset (registry name): ``templates/<dataset>.txt``, or ``templates/default.txt`` without one."""
    plain = dataset.lower().replace("_", "")
    plain = _FILE_NAMES.get(plain, plain)
    for file in sorted(TEMPLATE_FOLDER.glob("*.txt")):
        if file.stem.replace("_", "") == plain:
            return file
    return TEMPLATE_FOLDER / "default.txt"


def read_groups(path, doubled_blanks=False):
    """Parse a group file.

    Args:
        path: of the file.
        doubled_blanks: allow two blanks in a row, where they mean something (``word_parts``).

    Returns:
        list of TemplateGroup.

    Raises:
        UserError: no such file, no group in it, or a line that isn't a template; names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"template file {path} does not exist (TRAINER.MOCOOP.TEMPLATES)") from None
    except (UnicodeDecodeError, OSError) as e:
        raise UserError(f"template file {path} cannot be read as UTF-8 text: {e}") from None
    groups, current, name = [], [], ""
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        content, _, comment = line.partition("#")
        content = content.strip()
        if content:
            _check_line(content, f"{path}:{number}", doubled_blanks)
            current.append(content)
        elif comment and not current:
            name = comment.strip()
            if not name.isprintable():
                raise UserError(f"{path}:{number}: control character in the name of a group: {name!r}")
        elif not comment and current:
            groups.append(TemplateGroup(name or f"group {len(groups) + 1}", tuple(current)))
            current, name = [], ""
        elif not comment:
            name = ""
    if not groups:
        raise UserError(f"template file {path} holds no template")
    return groups


def _check_line(template, where, doubled_blanks):
    """A template has one {} and no other brace, no doubled blank unless asked for, no control character."""
    if not template.isprintable():
        raise UserError(f"{where}: control character in a template: {template!r}")
    if template.count("{}") != 1:
        raise UserError(f'{where}: a template needs exactly one {{}} for the class name: "{template}"')
    rest = template.replace("{}", "")
    if "{" in rest or "}" in rest:
        raise UserError(f'{where}: only an empty pair of braces may stand in a template: "{template}"')
    if "  " in template and not doubled_blanks:
        raise UserError(f'{where}: two blanks in a row: "{template}"')
