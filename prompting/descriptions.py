"""Descriptions of classes, several sentences each, as language models write them (CuPL's JSON: {class: [sentences]}).

A group of sentences of all classes guides one of MoCoOp's experts in place of a group of templates. A group file of
descriptions is JSON: {"groups": [{"name", "template", "sentences": {class: [sentences]}}]}; the expert starts from the template.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from basics import UserError, home, read_json, write_json

from .templates import TemplateGroup, check_line
from .tokens import clip_tokenizer, readable


def read_descriptions(path: str | Path) -> dict[str, tuple[str, ...]]:
    """{class: its sentences} of a file in CuPL's format; a sentence that a class has twice counts once.

    Raises:
        UserError: no such file, or one that holds something else.
    """
    return _sentences(read_json(str(path)), str(path))


def _sentences(content, where):
    if not isinstance(content, dict) or not content:
        raise UserError(f"{where}: not descriptions: it must be an object {{class: [sentences]}}")
    found = {}
    for name, sentences in content.items():
        if not isinstance(sentences, list) or not all(isinstance(s, str) and s.strip() and s.isprintable() for s in sentences):
            raise UserError(f"{where}: the class {name!r} must have a list of sentences, each of printable text on one line")
        found[name] = tuple(dict.fromkeys(" ".join(s.split()) for s in sentences))
    return found


def sentence_programs(sentences: Iterable[str], tokenizer: Any = None) -> tuple[list[list[int]], int]:
    """(a program for each sentence, how many were cut).

    A sentence that is longer than the text tower keeps its first tokens and its end token, as in CuPL's code
    (``clip.tokenize(…, truncate=True)``). Templates and class names are never cut: ``hard_programs`` refuses them.
    """
    tokenizer, programs, cut = tokenizer or clip_tokenizer(), [], 0
    room = tokenizer.context_length - len(tokenizer.framed([]))
    for sentence in sentences:
        body = tokenizer.encode(sentence)
        cut += len(body) > room
        programs.append(tokenizer.framed(body[:room]))
    return programs, cut


def matched(classnames: Sequence[str], described: dict[str, Any] | Iterable[str], where: str) -> list[str]:
    """The key of each class in ``described``: the same name, whatever its case, blanks and underscores.

    Raises:
        UserError: a class without descriptions.
    """
    plain = lambda name: readable(name).lower()  # noqa: E731
    known: dict[str, str] = {}
    for key in described:
        known.setdefault(plain(key), key)
    missing = [name for name in classnames if plain(name) not in known]
    if missing:
        raise UserError(f"{where}: no descriptions of {len(missing)} of {len(classnames)} classes, first {missing[0]!r}")
    return [known[plain(name)] for name in classnames]


def write_described(groups: Sequence[TemplateGroup], path: str | Path, about: str) -> None:
    """Write a group file of descriptions; ``about`` says how it was made."""
    entries = [
        {"name": g.name, "template": g.templates[0], "sentences": {name: list(texts) for name, texts in g.sentences}}
        for g in groups
    ]
    write_json({"about": about, "groups": entries}, str(path))


def read_described(path: str | Path) -> list[TemplateGroup]:
    """The groups of a group file of descriptions.

    Raises:
        UserError: no such file, or one that holds something else.
    """
    content = read_json(str(path))
    entries = content.get("groups") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: not a group file of descriptions ({home.command('groups')} --descriptions makes one)")
    groups = []
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: group {number}"
        name, template = (entry.get(key) if isinstance(entry, dict) else None for key in ("name", "template"))
        if not isinstance(name, str) or not name.isprintable() or not isinstance(template, str):
            raise UserError(f"{where} must have a name, a template and sentences")
        check_line(template, where)
        sentences = _sentences(entry.get("sentences"), where)
        groups.append(TemplateGroup(name, (template,), tuple(sentences.items())))
    return groups


def sentences_of(groups: Sequence[TemplateGroup], classnames: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """[G][C] sentences: of each group those of each class; of a class that a group has none of, those of all groups.

    Raises:
        UserError: a class without descriptions.
    """
    whole: dict[str, tuple[str, ...]] = {}
    for group in groups:
        for name, sentences in group.sentences:
            whole[name] = tuple(dict.fromkeys((*whole.get(name, ()), *sentences)))
    whole = {name: sentences for name, sentences in whole.items() if sentences}
    keys = matched(classnames, whole, "TRAINER.MOCOOP.TEMPLATES")
    return [[dict(group.sentences).get(key) or whole[key] for key in keys] for group in groups]
