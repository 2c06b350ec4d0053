"""CLIP's byte-pair tokens, as plain lists of integers.

The tokenizer itself is open_clip's (the 49,408-entry vocabulary of openai/CLIP). Prompts are assembled from lists of token
ids, never from padded tensors: how long a prompt is decides how much the text tower has to compute.
"""

from functools import lru_cache

from basics import UserError

SOT, EOT = 49406, 49407
VOCABULARY_SIZE = 49408


@lru_cache(maxsize=1)
def _tokenizer():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@lru_cache(maxsize=200_000)
def _encode(text):
    return tuple(_tokenizer().encode(text))


def encode(text):
    """BPE token ids of ``text``, without start and end token.

    A run of blanks counts as one blank, letters are lower-cased, as in openai/CLIP.
    """
    return list(_encode(text))


def readable(classname):
    """A class name as prompts show it: ``_`` becomes a blank (CoOp's rule)."""
    return classname.replace("_", " ")


def check_length(program, text, context_length):
    """Raise UserError when a token program is longer than the text tower's positional table.

    Args:
        program: token ids and learned references of one whole prompt, start and end token included.
        text: the prompt in words, for the message.
        context_length: 77 for CLIP.
    """
    if len(program) > context_length:
        raise UserError(
            f'the prompt "{text}" has {len(program)} tokens; CLIP\'s text encoder takes {context_length} at most. '
            "Shorten the class name or the template (or, where a prompt has context vectors, use fewer: N_CTX)."
        )
