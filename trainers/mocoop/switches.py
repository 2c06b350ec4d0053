"""MoCoOp's switches beyond its paper: prompts in deeper layers and in the image encoder, a meta-net, self-regularisation."""

from basics import UserError
from dassl.config import key
from learning.keys import prompt_depth
from learning.self_regularisation import regularisation_keys


def deep_keys():
    """Their keys in TRAINER.MOCOOP; all are off."""
    return {
        "PROMPT_DEPTH_TEXT": prompt_depth(1, "text tower", low=1),
        "PROMPT_DEPTH_VISION": prompt_depth(0, "image encoder"),
        "N_CTX_VISION": key(4, "rows of a visual prompt, which all experts share", low=1, high=1000),
        "META_NET": key(False, "a meta-net (CoCoOp's) shifts the contexts of an image's experts: prompts of its own for each "
                        "image, in evaluation, too", binds=True),
        "SELF_REGULARISATION": key(False, "PromptSRC's losses to frozen CLIP, and the mean over epochs"),
        **regularisation_keys("SELF_TEXT_WEIGHT", "SELF_IMAGE_WEIGHT"),
    }  # fmt: skip


def check_deep(options, leaves_out):
    """UserError for switches that exclude each other, or that would have no effect.

    leaves_out: whether training batches are so small that CHOSEN_BELOW leaves experts out.
    """
    o, defaults = options, deep_keys()
    if not o.SELF_REGULARISATION:
        _refuse_idle(o, defaults, ("SELF_TEXT_WEIGHT", "SELF_IMAGE_WEIGHT", "GPA_MEAN", "GPA_STD"), "SELF_REGULARISATION False")
    if not o.PROMPT_DEPTH_VISION:
        _refuse_idle(o, defaults, ("N_CTX_VISION", "SELF_IMAGE_WEIGHT"), "PROMPT_DEPTH_VISION 0")
    others = {
        "TUNE_LAYERNORM True": (o.TUNE_LAYERNORM, "whose encoder isn't frozen CLIP's any more, so there is no teacher"),
        f"TEXT_EXPERTS {o.TEXT_EXPERTS}": (o.TEXT_EXPERTS, "whose steps don't encode all experts"),
        f"CHOSEN_BELOW {o.CHOSEN_BELOW}": (leaves_out, "whose steps don't encode all experts"),
    }
    for other, (given, why) in others.items():
        if o.SELF_REGULARISATION and given:
            raise UserError(f"TRAINER.MOCOOP.SELF_REGULARISATION True with TRAINER.MOCOOP.{other}, {why}: leave out one of them")
    if o.ROUTER_CENTRE and o.PROMPT_DEPTH_VISION:
        raise UserError(
            f"TRAINER.MOCOOP.ROUTER_CENTRE True with TRAINER.MOCOOP.PROMPT_DEPTH_VISION {o.PROMPT_DEPTH_VISION}: the centre is "
            "computed once, before the first epoch, and image features with learned prompts don't stay; leave out one of them"
        )


def _refuse_idle(options, defaults, names, cause):
    for name in names:
        if options[name] != defaults[name].default:
            raise UserError(f"TRAINER.MOCOOP.{name} {options[name]} has no effect with TRAINER.MOCOOP.{cause}")
