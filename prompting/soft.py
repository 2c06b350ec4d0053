"""Prompts as programs: the tokens of templates and class names, and where learned vectors stand among them."""

from basics import UserError

from .plan import learned
from .templates import soft_parts, word_parts
from .tokens import clip_tokenizer, readable

POSITIONS = ("end", "middle", "front")


def context_programs(classnames, n_ctx, position="end", class_specific=False, tokenizer=None, frozen=(), rest="{}."):
    """Programs of CoOp's prompt: n_ctx learned vectors, the class name, a full stop.

    Args:
        classnames: [C] names.
        n_ctx: vectors per prompt.
        position: where the class name stands: "end", "middle" (after the first n_ctx // 2 vectors) or "front".
        class_specific: every class has its own n_ctx vectors; class c uses learned rows c * n_ctx ….
        tokenizer: the model's, ``clip.tokenizer``; None for CLIP's own with 77 positions, here and below.
        frozen: token ids right before the class name that aren't learned. Where the context isn't at the end, the first
            len(name) of [frozen | name] count as the name: the published code's rule (ProGrad's templates have such tokens).
        rest: the class name {} and the frozen words around it.

    Returns:
        [C] programs; learned rows are 0 … n_ctx - 1, or 0 … C * n_ctx - 1.
    """
    tokenizer, programs = tokenizer or clip_tokenizer(), []
    for c, name in enumerate(classnames):
        start = c * n_ctx if class_specific else 0
        ctx = [learned(start + i) for i in range(n_ctx)]
        text = [*frozen, *tokenizer.encode(rest.replace("{}", readable(name)))]
        n = len(tokenizer.encode(readable(name)))
        if position == "end":
            body = ctx + text
        elif position == "middle":
            half = n_ctx // 2
            body = ctx[:half] + text[:n] + ctx[half:] + text[n:]
        elif position == "front":
            body = text[:n] + ctx + text[n:]
        else:
            raise UserError(f'class token position "{position}": choose one of {", ".join(POSITIONS)}')
        program = tokenizer.framed(body)
        tokenizer.check_length(program, f"[{n_ctx} vectors] {rest.replace('{}', readable(name))}")
        programs.append(program)
    return programs


def attribute_programs(classnames, attributes, n_att, n_ctx, tokenizer=None):
    """Programs of ATPrompt: for each attribute its vectors and the word, then n_ctx vectors, the class name, a full stop.

    Args:
        classnames: [C] names.
        attributes: words; n_att: vectors before each.
        n_ctx: vectors of the context.

    Returns:
        [C] programs, whose learned rows are numbered in the order of the prompt. The published code counts one token for each
        attribute: of a word of more tokens the first one stays, the vectors take the places of the following ones, and as many
        placeholders ("X") stay frozen before the class name.
    """
    tokenizer, programs = tokenizer or clip_tokenizer(), []
    counts, placeholder = [*n_att[: len(attributes)], n_ctx], tokenizer.encode("X")[:1]
    before = [token for n, word in zip(counts, attributes) for token in placeholder * n + tokenizer.encode(word)]
    for name in map(readable, classnames):
        body, at, row = [*before, *placeholder * n_ctx, *tokenizer.encode(f"{name}.")], 0, 0
        for n in counts:
            body[at : at + n] = [learned(row + i) for i in range(n)]
            at, row = at + n + 1, row + n
        program = tokenizer.framed(body)
        tokenizer.check_length(program, f"[{row} vectors, {', '.join(attributes)}] {name}.")
        programs.append(program)
    return programs


def hard_programs(template, classnames, tokenizer=None, underscores=False):
    """[C] programs of a hard template filled with every class name; UserError where one is longer than the context.

    underscores: class names keep theirs, each a token of its own, as in the repositories TaskRes and CLAP.
    """
    tokenizer, programs = tokenizer or clip_tokenizer(), []
    for name in classnames:
        text = template.replace("{}", name if underscores else readable(name))
        program = tokenizer.framed(tokenizer.encode(text))
        tokenizer.check_length(program, text)
        programs.append(program)
    return programs


def template_programs(template, classnames, offset=0, stop=True, tokenizer=None):
    """Programs of a soft prompt grown from a template: its tokens, before and after the class name, are learned vectors.

    Args:
        template: a hard template with one {}.
        classnames: [C] names.
        offset: number of the learned row that the template's first token has.
        stop: end with the template's full stop.

    Returns:
        [C] programs, using learned rows offset … offset + len(before) + len(after) - 1.
    """
    tokenizer, programs = tokenizer or clip_tokenizer(), []
    before, after, full_stop = soft_parts(template, tokenizer)
    ctx = [learned(offset + i) for i in range(len(before) + len(after))]
    for name in classnames:
        tail = full_stop if stop else []
        program = tokenizer.framed([*ctx[: len(before)], *tokenizer.encode(readable(name)), *ctx[len(before) :], *tail])
        tokenizer.check_length(program, template.replace("{}", readable(name)))
        programs.append(program)
    return programs


def word_programs(template, classnames, offset=0, stop=True, tokenizer=None):
    """As ``template_programs``, with one learned vector for each word of the template (``word_parts``), as released.

    The learned vectors take the places of as many tokens of the whole prompt: before the class name the first ones, after
    it those that follow the name's number of tokens. Tokens before the name that are left over stay frozen; a vector too
    many drops a token of the name, or stands in the end token's place and is read there.
    """
    tokenizer, programs = tokenizer or clip_tokenizer(), []
    before, first, after, last = word_parts(template, tokenizer)
    ctx = [learned(offset + i) for i in range(len(first) + len(last))]
    at = len(tokenizer.start)
    for name in map(readable, classnames):
        tokens = tokenizer.framed(tokenizer.encode(f"{before} {name}{after}" + "." * stop))
        tokenizer.check_length(tokens, template.replace("{}", name))
        n = len(tokenizer.encode(name))
        rest = [*tokens[at + len(first) :], *[tokenizer.pad] * n]  # behind the end token stands CLIP's token 0
        body = [*ctx[: len(first)], *rest[:n], *ctx[len(first) :], *rest[n + len(last) :]]
        programs.append([*tokens[:at], *body][: len(tokens)])
    return programs
