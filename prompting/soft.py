"""Prompts as programs: the tokens of templates and class names, and where learned vectors stand among them."""

from basics import UserError

from .plan import learned
from .templates import soft_parts, word_parts
from .tokens import EOT, SOT, check_length, encode, readable

POSITIONS = ("end", "middle", "front")


def context_programs(classnames, n_ctx, position="end", class_specific=False, context_length=77, frozen=(), rest="{}."):
    """Programs of CoOp's prompt: n_ctx learned vectors, the class name, a full stop.

    Args:
        classnames: [C] names.
        n_ctx: vectors per prompt.
        position: where the class name stands: "end", "middle" (after the first n_ctx // 2 vectors) or "front".
        class_specific: every class has its own n_ctx vectors; class c uses learned rows c * n_ctx ….
        frozen: token ids right before the class name that aren't learned. Where the context isn't at the end, the first
            len(name) of [frozen | name] count as the name: the published code's rule (ProGrad's templates have such tokens).
        rest: the class name {} and the frozen words around it.

    Returns:
        [C] programs; learned rows are 0 … n_ctx - 1, or 0 … C * n_ctx - 1.
    """
    programs = []
    for c, name in enumerate(classnames):
        start = c * n_ctx if class_specific else 0
        ctx = [learned(start + i) for i in range(n_ctx)]
        text = [*frozen, *encode(rest.replace("{}", readable(name)))]
        n = len(encode(readable(name)))
        if position == "end":
            body = ctx + text
        elif position == "middle":
            half = n_ctx // 2
            body = ctx[:half] + text[:n] + ctx[half:] + text[n:]
        elif position == "front":
            body = text[:n] + ctx + text[n:]
        else:
            raise UserError(f'class token position "{position}": choose one of {", ".join(POSITIONS)}')
        program = [SOT, *body, EOT]
        check_length(program, f"[{n_ctx} vectors] {rest.replace('{}', readable(name))}", context_length)
        programs.append(program)
    return programs


def hard_programs(template, classnames, context_length=77, underscores=False):
    """[C] programs of a hard template filled with every class name; UserError where one is longer than the context.

    underscores: class names keep theirs, each a token of its own, as in the repositories TaskRes and CLAP.
    """
    programs = []
    for name in classnames:
        text = template.replace("{}", name if underscores else readable(name))
        program = [SOT, *encode(text), EOT]
        check_length(program, text, context_length)
        programs.append(program)
    return programs


def template_programs(template, classnames, offset=0, stop=True, context_length=77):
    """Programs of a soft prompt grown from a template: its tokens, before and after the class name, are learned vectors.

    Args:
        template: a hard template with one {}.
        classnames: [C] names.
        offset: number of the learned row that the template's first token has.
        stop: end with the template's full stop.

    Returns:
        [C] programs, using learned rows offset … offset + len(before) + len(after) - 1.
    """
    before, after, full_stop = soft_parts(template)
    ctx = [learned(offset + i) for i in range(len(before) + len(after))]
    programs = []
    for name in classnames:
        tail = full_stop if stop else []
        program = [SOT, *ctx[: len(before)], *encode(readable(name)), *ctx[len(before) :], *tail, EOT]
        check_length(program, template.replace("{}", readable(name)), context_length)
        programs.append(program)
    return programs


def word_programs(template, classnames, offset=0, stop=True, context_length=77):
    """As ``template_programs``, with one learned vector for each word of the template (``word_parts``), as released.

    The learned vectors take the places of as many tokens of the whole prompt: before the class name the first ones, after
    it those that follow the name's number of tokens. Tokens before the name that are left over stay frozen; a vector too
    many drops a token of the name, or stands in the end token's place and is read there.
    """
    before, first, after, last = word_parts(template)
    ctx = [learned(offset + i) for i in range(len(first) + len(last))]
    programs = []
    for name in map(readable, classnames):
        tokens = [SOT, *encode(f"{before} {name}{after}" + "." * stop), EOT]
        check_length(tokens, template.replace("{}", name), context_length)
        n = len(encode(name))
        rest = [*tokens[1 + len(first) :], *[0] * n]  # behind the end token stands token 0
        body = [*ctx[: len(first)], *rest[:n], *ctx[len(first) :], *rest[n + len(last) :]]
        programs.append([SOT, *body][: len(tokens)])
    return programs
