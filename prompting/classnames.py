"""Class names as the text tower sees them: names that it can't tell apart, and names that say nothing to it."""

import re

from basics import UserError

from .tokens import clip_tokenizer, readable

_KINDS = {
    "WordNet ids": re.compile(r"n\d{8}"),
    "numbers": re.compile(r"[\d\s._-]+"),
}


def same_tokens(classnames, tokenizer=None):
    """[(name, name)] of classes with the same tokens: whatever is learned, they have the same text feature."""
    tokenizer, first, pairs = tokenizer or clip_tokenizer(), {}, []
    for name in classnames:
        tokens = tuple(tokenizer.encode(readable(name)))
        if tokens in first:
            pairs.append((first[tokens], name))
        first.setdefault(tokens, name)
    return pairs


def remarks_on_names(classnames):
    """Lines about names that are no words, for a log."""
    lines = []
    for kind, pattern in _KINDS.items():
        found = [name for name in classnames if pattern.fullmatch(name)]
        if found:
            lines.append(
                f'Note: {len(found)} of {len(classnames)} class names are {kind}, first "{found[0]}"; prompts need names in words'
            )
    return lines


def check_classnames(classnames, published=False, tokenizer=None):
    """Raise UserError where the text tower can't tell two classes apart, or a name has no token at all.

    published: the names are those of a published dataset, some of which repeat names (ImageNet's): a warning is printed.
    tokenizer: the model's; None for CLIP's own.
    """
    tokenizer = tokenizer or clip_tokenizer()
    for name in classnames:
        if not tokenizer.encode(readable(name)):
            raise UserError(f'the class name "{name}" has no words, so no prompt can name it; rename the class')
    pairs = same_tokens(classnames, tokenizer)
    if not pairs:
        return
    more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
    text = f'the classes "{pairs[0][0]}" and "{pairs[0][1]}" have the same tokens, so no prompt tells them apart{more}'
    if not published:
        raise UserError(f"{text}; rename one of them")
    print(f"WARNING: {text}")


def names_never_met(classnames, clip):
    """The class names that have a token which the model has never met: its row in the token table is zero.

    A model that was pre-trained on few words, as the built-in one, can say nothing of others; CLIP's own rows are never zero.
    """
    ids = [clip.tokenizer.encode(readable(name)) for name in classnames]
    met = clip.text.token_embedding.weight.detach().ne(0).any(dim=1).tolist()  # [V]
    return [name for name, tokens in zip(classnames, ids) if not all(met[i] for i in tokens)]


def never_met(names):
    """What is wrong with class names that a model never met, and what to do."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f'the class name "{names[0]}"{more}: this model never met these words in training, so its prompts mean nothing; '
        "take a model that knows them (MODEL.BACKBONE.NAME ViT-B/16), a method that doesn't read names (LinearProbe), or "
        "other names (the built-in model knows those of the built-in sets, and little else)"
    )
