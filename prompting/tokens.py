"""Tokens as plain lists of integers: CLIP's byte-pair encoding, and the tokenizers of models that bring their own.

The tokenizers themselves are open_clip's and Hugging Face's. Prompts are assembled from lists of token ids, never from padded
tensors: how long a prompt is decides how much the text tower has to compute.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from basics import UserError
from basics.hashes import digest

from .byte_pairs import BytePairs

if TYPE_CHECKING:
    from .backbones import Backbone

SOT, EOT = 49406, 49407  # of CLIP's byte-pair encoding, as is encode()
BEFORE = "photo"  # the word behind which the rest of a prompt is tokenised


class Tokenizer:
    """A model's tokenizer.

    Args:
        tokenizer: ``BytePairs``, open_clip's ``SimpleTokenizer`` or ``HFTokenizer``.
        context_length: positions of the text tower.
        name: for messages and records.

    Attributes:
        start, end: token ids that stand before and behind the words of every prompt.
        pad: the id that fills a prompt up.
        size: entries of the vocabulary.
        is_clips: it is CLIP's byte-pair encoding.

    Raises:
        UserError: a tokenizer that frames prompts in another way than with fixed tokens.
    """

    def __init__(self, tokenizer: Any, context_length: int = 77, name: str = "CLIP's byte-pair encoding"):
        self.name, self.context_length = name, context_length
        kind = type(tokenizer).__name__
        self.is_clips = kind in ("BytePairs", "SimpleTokenizer")
        self._known: dict[str, tuple[int, ...]] = {}
        if self.is_clips:
            self._ids = tokenizer.encode
            self.start, self.end, self.pad = (tokenizer.sot_token_id,), (tokenizer.eot_token_id,), 0
            self.size = tokenizer.vocab_size
            return
        if not hasattr(tokenizer, "clean_fn"):
            raise UserError(f"{name}: a tokenizer of open_clip's kind {kind} isn't computed here")
        if getattr(tokenizer, "tokenizer_mode", ""):
            raise UserError(f"{name}: tokenizer mode {tokenizer.tokenizer_mode!r} isn't computed here")
        inner, clean = tokenizer.tokenizer, tokenizer.clean_fn
        self._ids = lambda text: inner([clean(text)], add_special_tokens=False).input_ids[0]
        self.size = len(inner)
        framed = list(inner([clean(BEFORE)]).input_ids[0])
        if getattr(tokenizer, "strip_sep_token", False):
            filled = getattr(tokenizer, "pad_token_id", None) or 0  # open_clip 3 fills with 0, 4 with the pad token
            framed = [filled if i == inner.sep_token_id else i for i in framed]
        own = list(self._ids(BEFORE))
        at = next((i for i in range(len(framed)) if own and framed[i : i + len(own)] == own), None)
        if at is None:
            raise UserError(f'{name}: "{BEFORE}" has other tokens alone than in a prompt, so prompts can\'t be made of parts')
        self.start, self.end = tuple(framed[:at]), tuple(framed[at + len(own) :])
        self.pad = int(tokenizer([""], context_length=len(self.start) + len(self.end) + 8)[0, -1])

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` without start and end tokens, cleaned as the model has it.

        CLIP's encoding takes a run of blanks for one and lower-cases letters, as in openai/CLIP.
        """
        if text not in self._known:
            self._known[text] = tuple(self._ids(text))
        return list(self._known[text])

    def encode_behind(self, text: str) -> list[int]:
        """Ids of ``text`` as it stands behind a word: a full stop there is another token than alone in some vocabularies."""
        own, whole = self.encode(BEFORE), self.encode(BEFORE + text)
        return whole[len(own) :] if whole[: len(own)] == own else self.encode(text)

    def framed(self, body: list[int]) -> list[int]:
        """A whole program: ``body`` (ids and learned references) between start and end."""
        return [*self.start, *body, *self.end]

    def check_length(self, program: list[int], text: str) -> None:
        """Raise UserError when a token program is longer than the text tower's positional table.

        Args:
            program: token ids and learned references of one whole prompt, start and end token included.
            text: the prompt in words, for the message.
        """
        if len(program) > self.context_length:
            raise UserError(
                f'the prompt "{text}" has {len(program)} tokens; CLIP\'s text encoder takes {self.context_length} at most. '
                "Shorten the class name or the template (or, where a prompt has context vectors, use fewer: N_CTX)."
            )

    def check_programs(self, programs: list[list[list[int]]]) -> None:
        """Raise UserError for programs [G][C] that weren't made with this tokenizer, or that are too long."""
        for program in (program for group in programs for program in group):
            if tuple(program[: len(self.start)]) != self.start or max(program) >= self.size:
                raise UserError(
                    f"a prompt with the tokens {str(program[:6])[:-1]}, … wasn't made with the backbone's tokenizer "
                    f"({self.name}): the functions that make prompts take tokenizer=self.clip.tokenizer"
                )
            self.check_length(program, " ".join(map(str, program)))

    def for_context(self, length: int) -> Tokenizer:
        """The same tokenizer for a tower of ``length`` positions."""
        other = copy.copy(self)
        other.context_length = length
        return other

    def record(self) -> dict[str, Any]:
        """What a record says of it, as plain data; two that tokenise alike are equal."""
        probe = [self.encode(text) for text in ("a photo of a cat.", "Déjà-vu, 12 <b>", "  X_y  ")]
        return {
            "name": self.name, "entries": self.size, "start": list(self.start), "end": list(self.end), "pad": self.pad,
            "context_length": self.context_length, "sha256_of_a_sample": digest(probe),
        }  # fmt: skip


@lru_cache(maxsize=1)
def clip_tokenizer() -> Tokenizer:
    """CLIP's own: the 49,408 byte pairs of openai/CLIP, 77 positions."""
    return Tokenizer(BytePairs())


def tokenizer_of(backbone: Backbone) -> Tokenizer:
    """The tokenizer that a backbone's architecture or folder names.

    Raises:
        UserError: it isn't there, or needs a package that isn't.
    """
    text, folder = backbone.config["text_cfg"], backbone.folder
    theirs, options = text.get("hf_tokenizer_name", ""), text.get("tokenizer_kwargs")
    if not theirs and not options and "siglip" not in backbone.model.lower():
        return clip_tokenizer().for_context(text.get("context_length", 77))
    try:
        return _own_tokenizer(backbone.model, folder, f"{theirs or 'CLIP byte pairs'} {options or ''}".strip(), digest(text))
    except UserError as e:
        raise UserError(f"{backbone.name}: {e}") from e


@lru_cache(maxsize=4)
def _own_tokenizer(model, folder, name, config):
    """open_clip's tokenizer of an architecture or a folder; ``config``: hash of its configuration, of which it is a function."""
    import open_clip

    try:
        found = open_clip.get_tokenizer(f"local-dir:{folder}" if folder else model)
        return Tokenizer(found, found.context_length, name)
    except UserError:
        raise
    except ModuleNotFoundError as e:
        raise UserError(
            f"it has a tokenizer of its own ({name}), which needs the package {e.name}: pip install transformers sentencepiece"
        ) from e
    except Exception as e:
        way_out = f"put its files into {folder}" if folder else "fetch it on a machine with network, the Hub's cache keeps it"
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
        raise UserError(f"its tokenizer {name} can't be loaded ({reason}); {way_out}") from e


def encode(text: str) -> list[int]:
    """Ids of ``text`` in CLIP's byte-pair encoding, without start and end token; a model's are its tokenizer's."""
    return clip_tokenizer().encode(text)


def readable(classname: str) -> str:
    """A class name as prompts show it: ``_`` becomes a blank (CoOp's rule)."""
    return classname.replace("_", " ")
