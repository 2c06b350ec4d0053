"""Keys that several methods have, each declared once, and the rules between them.

cfg.TRAINER.MINE = section(N_CTX=context_length(4), CTX_INIT=initial_words(), PREC=precision("fp16"))
"""

from basics import UserError
from dassl.config import key
from prompting import POSITIONS, PRECISIONS

NOT_WORDS = {"none", "null", "nil", "false", "true", "no", "off", "random", "default", "nan", "~"}


def precision(default="fp16"):
    """PREC."""
    return key(default, "precision: whole or half numbers, mixed, or bfloat16", choices=PRECISIONS)


def context_length(default=16):
    """N_CTX."""
    return key(default, "number of context vectors, where no words are given", low=1, high=1000)


def initial_words(default=None):
    """CTX_INIT."""
    nothing = {"": "a random start", None: "the same", False: "the same", True: "the method's own words, where it has some"}
    return key(default, "words that the context starts from", kind=str, also=nothing, check=_words)


def class_position(default="end"):
    """CLASS_TOKEN_POSITION."""
    return key(default, "where the class name stands", choices=POSITIONS, binds=True)


def prompt_depth(default, where, low=0):
    """PROMPT_DEPTH, PROMPT_DEPTH_TEXT, PROMPT_DEPTH_VISION."""
    meaning = f"layers of the {where} with prompts of their own, the first one counted"
    return key(default, meaning, low=low, high=1000)


def check_depth(name, depth, layers, where):
    """UserError where prompts are asked for in more layers than there are."""
    if depth > layers:
        raise UserError(f"{name} {depth}: {where} has {layers} layers")


def class_specific():
    """CSC."""
    return key(False, "every class has a context of its own; not with words")


def enhanced_base():
    """ENHANCED_BASE."""
    return key("none", "file with the text projection of the repository TaskRes", also={"none": "CLIP's own"}, binds=True)


def views():
    """VIEWS."""
    meaning = (
        "augmented views of a training image that the epochs take in turn, encoded once; 0: a new one each epoch, as published"
    )
    return key(0, meaning, low=0, high=1_000_000)


def _words(text):
    words = text.replace("_", " ").strip()
    if not words:
        return 'must be words, or "" for a random start'
    if words.lower() in NOT_WORDS:
        return 'is no beginning of a prompt; write "" for a random start'
    if "{" in words or "}" in words:
        return "must be the words before the class name alone, without {}"
    return ""


def check_context(section, options, own_start=""):
    """Raise UserError where CTX_INIT asks for what the method can't do, or CSC for what words exclude.

    Args:
        section: the method's part of cfg.TRAINER, for the message.
        options: its values.
        own_start: what the method starts from whenever CTX_INIT is set, in words; "" where CTX_INIT says it.
    """
    words = options.get("CTX_INIT")
    if not words:
        return
    name = f"TRAINER.{section}.CTX_INIT {words!r}"
    if words is True and not own_start:
        raise UserError(f'{name}: give the words themselves, e.g. "a photo of a"')
    if own_start and words is not True and words.replace("_", " ") != own_start:
        raise UserError(f'{name}: this method starts from {own_start}, as published; set True for it, or "" for a random start')
    if options.get("CSC"):
        raise UserError(
            f'TRAINER.{section}.CSC True: words (CTX_INIT {words!r}) start one context that all classes share; set CTX_INIT "" '
            "for contexts of the classes' own, or CSC False"
        )
