"""The fast text tower computes what the 77-token computation computes: outputs, gradients, in every arrangement."""

import pytest
import torch

from basics import UserError
from benchmarks.measure import kept_bytes
from benchmarks.text_tower import text_tower
from prompting import build_plan, context_programs, hard_programs, soft_parts, template_programs
from prompting.reference import encode_reference

NAMES = ["forest", "sea or lake", "herbaceous vegetation land", "river", "pay phone", "car_side", "St. Bernard"]
TEMPLATES = ["a photo of a {}.", "{} texture.", "itap of a {}.", "a {} in a video game.", "a photo of a {}, a type of pet."]


@pytest.fixture(scope="module")
def tower():
    return text_tower(width=128, layers=3, heads=2, dtype=torch.float64)


def experts():
    programs, offset = [], 0
    for template in TEMPLATES:
        programs.append(template_programs(template, NAMES, offset))
        offset += sum(map(len, soft_parts(template)[:2]))
    return programs, offset


def two_readouts():
    """Prompts without and with the full stop, of one learned context (the released MoCoOp recipe)."""
    t = TEMPLATES[0]
    return [template_programs(t, NAMES, stop=True) + template_programs(t, NAMES[:3], stop=False)], 4


ARRANGEMENTS = {
    "end": lambda: ([context_programs(NAMES, 16)], 16),
    "middle, odd length": lambda: ([context_programs(NAMES, 5, "middle")], 5),
    "front": lambda: ([context_programs(NAMES, 4, "front")], 4),
    "class-specific end": lambda: ([context_programs(NAMES, 3, "end", True)], 3 * len(NAMES)),
    "class-specific middle": lambda: ([context_programs(NAMES, 5, "middle", True)], 5 * len(NAMES)),
    "one class": lambda: ([context_programs(NAMES[:1], 4)], 4),
    "experts with unequal prefixes": experts,
    "two read-outs": two_readouts,
}


def both(tower, plan, learned, **options):
    """(features, gradient) of the fast tower and of the reference."""
    direction = torch.randn(plan.num_groups, plan.num_classes, tower.width, dtype=torch.float64)
    results = []
    for encode in (lambda p, x: tower(p, x, **options), lambda p, x: encode_reference(tower, p, x)):
        learned.grad = None
        features = encode(plan, learned)
        (features * direction).sum().backward()
        results.append((features.detach(), learned.grad.clone()))
    return results


@pytest.mark.parametrize("padding", [0, 10_000], ids=["ragged", "padded"])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_outputs_and_gradients_equal_the_reference(tower, arrangement, padding):
    programs, count = ARRANGEMENTS[arrangement]()
    plan = build_plan(programs, padding)
    learned = (torch.randn(count, tower.width, dtype=torch.float64) * 0.02).requires_grad_()
    (ours, our_grad), (theirs, their_grad) = both(tower, plan, learned)
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max()
    assert (our_grad - their_grad).abs().max() <= 1e-12 * their_grad.abs().max()
    assert theirs.abs().max() > 0 and their_grad.abs().max() > 0
    if padding == 0:
        assert plan.num_tokens < 77 * plan.num_groups * plan.num_classes / 3


def test_one_context_per_image(tower):
    plan = build_plan([context_programs(NAMES, 4)]).tile(3, 4)
    learned = torch.randn(12, tower.width, dtype=torch.float64).requires_grad_()
    (ours, our_grad), (theirs, their_grad) = both(tower, plan, learned)
    assert ours.shape == (3, len(NAMES), tower.width)
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max()
    assert (our_grad - their_grad).abs().max() <= 1e-12 * their_grad.abs().max()
    assert (ours[0] - ours[1]).abs().max() > 1e-3


def test_hard_prompts(tower):
    plan = build_plan([hard_programs(t, NAMES) for t in TEMPLATES])
    with torch.no_grad():
        ours, theirs = tower(plan), encode_reference(tower, plan)
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max()


def test_checkpointing_changes_memory_and_nothing_else(tower):
    programs, count = experts()
    plan = build_plan(programs)
    learned = torch.randn(count, tower.width, dtype=torch.float64).requires_grad_()
    (ours, our_grad), (theirs, their_grad) = both(tower, plan, learned, checkpointing=True)
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max()
    assert (our_grad - their_grad).abs().max() <= 1e-12 * their_grad.abs().max()
    plain = kept_bytes(lambda: tower(plan, learned), tower.parameters())
    saving = kept_bytes(lambda: tower(plan, learned, checkpointing=True), tower.parameters())
    assert saving < plain / 2


def test_fp32(tower):
    small = text_tower(width=128, layers=3, heads=2)
    programs, count = experts()
    plan = build_plan(programs)
    learned = torch.randn(count, 128) * 0.02
    with torch.no_grad():
        ours, theirs = small(plan, learned), encode_reference(small, plan, learned)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_groups_of_different_sizes_are_refused_unless_asked_for():
    programs = [context_programs(["forest", "river"], 4), context_programs(["forest"], 4)]
    with pytest.raises(ValueError, match="groups of 2, 1 programs"):
        build_plan(programs)
    assert build_plan(programs, ragged=True).num_classes == 2


@pytest.mark.parametrize("name", ("nowhere", "roberta-ViT-B-32", "coca_ViT-B-32", "ViT-B-16-SigLIP"))
def test_the_benchmark_refuses_architectures_whose_text_tower_isnt_packed(name):
    with pytest.raises(UserError, match=f"{name}: "):
        text_tower(architecture=name)
