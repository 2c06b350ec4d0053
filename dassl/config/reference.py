"""The reference of all keys as text, made from their declarations: ``python train.py --keys [WORD]``, docs/keys.md."""

from .schema import keys_of, shown

HEAD = """# Keys of the configuration

Made by `python train.py --keys > docs/keys.md`; `python train.py --keys WORD` shows the keys with WORD in them. A key is set in a
YAML file or as `KEY VALUE` at the end of a command line. Every value is checked before data and weights are touched.
"""


def reference(cfg, readers, word=""):
    """The reference as Markdown, a line for each key.

    Args:
        cfg: a configuration with its defaults, extended by all methods.
        readers: {section: who reads it}, for sections whose keys don't say it, such as {"TRAINER.COOP": "CoOp, KgCoOp"}.
        word: only the keys whose line has it, without regard to case, and no head.
    """
    sections = {}
    for name, known, _ in keys_of(cfg):
        line = _line(name, known, readers)
        if word.lower() in line.lower():
            sections.setdefault(_section(name), []).append(line)
    if word:
        return "\n".join(line for lines in sections.values() for line in lines)
    parts = [HEAD, *(f"## {section}\n\n" + "\n".join(lines) + "\n" for section, lines in sections.items())]
    return "\n".join(parts).rstrip()


def _section(name):
    parts = name.split(".")
    depth = 2 if parts[0] == "TRAINER" and len(parts) > 2 else 1
    return ".".join(parts[:depth]) if len(parts) > 1 else "At the top"


def _line(name, known, readers):
    reader = known.reader or readers.get(name.rpartition(".")[0], "")
    who = f" Read by {reader}." if reader else ""
    return f"- `{name}` = {shown(known.default)}: {known.meaning}. {_sentence(known.range)}.{who}"


def _sentence(text):
    return text[:1].upper() + text[1:]
