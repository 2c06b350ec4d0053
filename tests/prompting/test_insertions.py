"""Deep prompts, joining and class-specific rows, adapters and LoRA: the packed tower equals the 77-token computation in fp64."""

import copy

import pytest
import torch
from torch import nn

from benchmarks.text_tower import text_tower
from prompting import Insertions, UserError, build_plan, context_programs, learned
from prompting.image_tower import encode_tokens
from prompting.reference import encode_reference

NAMES = ["forest", "sea or lake", "herbaceous vegetation land", "river", "pay phone"]
D, M, LAYERS = 128, 3, 5


@pytest.fixture(scope="module")
def tower():
    return text_tower(width=D, layers=LAYERS, heads=2, dtype=torch.float64)


def rows(n):
    return nn.Parameter(0.1 * torch.randn(n, D, dtype=torch.float64))


class Adapter(nn.Module):
    """D -> 4 -> D, not linear."""

    def __init__(self, width=D):
        super().__init__()
        self.down, self.up = nn.Linear(width, 4, dtype=torch.float64), nn.Linear(4, width, dtype=torch.float64)

    def forward(self, x):
        return self.up(self.down(x).relu())


def deep(**more):
    """MaPLe: rows 1 to M are replaced before layers 1 to 3."""
    return [context_programs(NAMES, M)], None, Insertions(rows={i: rows(M) for i in (1, 2, 3)}, **more)


def joining():
    """MMRL: four rows join behind the start token at layer 2 and are replaced at layers 3 and 4."""
    programs = context_programs(NAMES, M)
    later = [[0, *map(learned, range(4)), *range(1, len(p))] for p in programs]
    return [programs], {2: [later]}, Insertions(rows={i: rows(4) for i in (2, 3, 4)})


def frozen_words(layer):
    """MMRL with words that aren't learned: the layers below are computed once."""
    programs = [[49406, 320, 1125, *p[1 + M :]] for p in context_programs(NAMES, M)]
    later = [[0, *map(learned, range(4)), *range(1, len(p))] for p in programs]
    return [programs], {layer: [later]}, Insertions(rows={i: rows(4) for i in (layer, 4)})


def class_specific(layer=3):
    """TCP: from a layer on every class has rows of its own in place of the shared context."""
    programs = context_programs(NAMES, M)
    later = [[0, *(learned(M * c + k) for k in range(M)), *range(1 + M, len(p))] for c, p in enumerate(programs)]
    return [programs], {layer: [later]}, Insertions(rows={layer: rows(M * len(NAMES))})


def twice():
    """Rows join, then the prompts lose them and the context, then two others join in another place."""
    programs = context_programs(NAMES, M)
    first = [[0, learned(0), *range(1, len(p))] for p in programs]
    second = [[0, *range(2 + M, len(p))] for p in first]
    third = [[0, learned(1), 1, learned(0), *range(2, len(p))] for p in second]
    return [programs], {1: [first], 2: [second], 3: [third]}, Insertions(rows={1: rows(1), 2: rows(0), 3: rows(2)})


CASES = {
    "deep prompts": deep,
    "joining rows": joining,
    "joining rows, frozen words": lambda: frozen_words(2),
    "joining rows at the first layer": lambda: frozen_words(0),
    "class-specific rows": class_specific,
    "class-specific rows in the last layer": lambda: class_specific(LAYERS - 1),
    "adapters beside": lambda: ([context_programs(NAMES, M)], None, Insertions(beside={i: Adapter() for i in (0, 3, 4)})),
    "adapters after": lambda: ([context_programs(NAMES, M)], None, Insertions(after={i: Adapter() for i in (1, 4)})),
    "adapted embedding": lambda: ([context_programs(NAMES, M)], None, Insertions(embedding=Adapter())),
    "LoRA": lambda: (
        [context_programs(NAMES, M)],
        None,
        Insertions(projections={0: {"q": Adapter(), "v": Adapter()}, 4: {name: Adapter() for name in "qkvo"}}),
    ),
    "deep prompts and adapters": lambda: deep(beside={i: Adapter() for i in (2, 4)}),
    "experts": lambda: (
        [context_programs(NAMES, M), [[49406, *map(learned, range(M, M + 2)), *p[1 + M :]] for p in context_programs(NAMES, M)]],
        None,
        Insertions(rows={1: rows(M + 2), 2: rows(M + 2)}),
    ),
}


def outcome(encode, ctx, insertions):
    """(features, gradients of everything that is learned)"""
    wanted = [*([] if ctx is None else [ctx]), *insertions.rows.values(), *insertions.modules().parameters()]
    features = encode()
    torch.manual_seed(5)
    loss = (features * torch.randn(features.shape, dtype=features.dtype)).sum()
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    return features.detach(), gradients


@pytest.mark.parametrize("options", [{}, {"checkpointing": True}], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("padding", [0, 10_000], ids=["ragged", "padded"])
@pytest.mark.parametrize("case", CASES)
def test_features_and_gradients_equal_the_reference(tower, case, padding, options):
    torch.manual_seed(1)
    programs, later, insertions = CASES[case]()
    plan = build_plan(programs, padding, later=later)
    ctx = rows(plan.num_learned) if plan.num_learned else None
    ours, own = outcome(lambda: tower(plan, ctx, insertions=insertions, **options), ctx, insertions)
    theirs, plain = outcome(lambda: encode_reference(tower, plan, ctx, insertions), ctx, insertions)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12 * theirs.abs().max())
    for mine, other in zip(own, plain, strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or (mine - other).norm() <= 1e-12 * max(1, other.norm())
    others = Insertions(rows={layer: rows(len(r)) for layer, r in insertions.rows.items()})
    assert (ours - tower(plan, ctx, insertions=others)).abs().max() > 1e-6  # what is inserted matters


@pytest.mark.parametrize("case", ["deep prompts", "joining rows", "class-specific rows"])
def test_copies_of_a_plan_have_inserted_rows_of_their_own(tower, case):
    programs, later, insertions = CASES[case]()
    plan, other = build_plan(programs, later=later), CASES[case]()[2]
    contexts = [rows(M), rows(M)]
    both = Insertions(rows={i: torch.cat([r, other.rows[i]]) for i, r in insertions.rows.items()})
    tiled = tower(plan.tile(2, M), torch.cat(contexts), insertions=both)
    for number, (ctx, own) in enumerate(zip(contexts, (insertions, other))):
        assert torch.allclose(tiled[number], tower(plan, ctx, insertions=own)[0], rtol=0, atol=1e-12)


def test_layers_below_the_first_insertion_are_computed_once_and_anew_when_weights_change(tower, monkeypatch):
    programs, later, insertions = frozen_words(2)
    plan, layers = build_plan(programs, later=later), []
    layer = type(tower)._layer
    monkeypatch.setattr(type(tower), "_layer", lambda self, i, *args: (layers.append(i), layer(self, i, *args))[1])
    first = tower(plan, insertions=insertions)
    assert layers == [0, 1, 2, 3, 4]
    assert torch.equal(tower(plan, insertions=insertions), first) and layers[5:] == [2, 3, 4]
    bias = tower.blocks[1].ln_1.bias
    with torch.no_grad():
        bias += 1
    try:
        changed = tower(plan, insertions=insertions)
        assert layers[8:] == [0, 1, 2, 3, 4]
        assert torch.allclose(changed, encode_reference(tower, plan, insertions=insertions), rtol=0, atol=1e-11)
        bias.requires_grad_(True)
        tower(plan, insertions=insertions).sum().backward()
        assert bias.grad.abs().max() > 0
    finally:
        bias.requires_grad_(False)
        with torch.no_grad():
            bias -= 1


def test_what_does_not_fit_is_an_error(tower):
    programs, later, insertions = joining()
    plan = build_plan(programs, later=later)
    with pytest.raises(ValueError, match="none are given"):
        tower(plan, rows(M))
    with pytest.raises(ValueError, match="5 rows are inserted before layer 2, but the prompts have 4"):
        tower(plan, rows(M), insertions=Insertions(rows={2: rows(5)}))
    with pytest.raises(ValueError, match="but the prompts have 0"):
        tower(build_plan([[[49406, 320, 49407]]]), insertions=Insertions(rows={1: rows(2)}))
    with pytest.raises(UserError, match="has 5 layers, counted from 0: nothing can be inserted in 5"):
        tower(plan, rows(M), insertions=Insertions(rows={2: rows(4), 5: rows(4)}))
    with pytest.raises(ValueError, match="must end with the end token"):
        build_plan(programs, later={1: [[[0, 1] for _ in NAMES]]})
    with pytest.raises(TypeError, match="is no nn.Module"):
        Insertions(beside={1: lambda x: x})
    with pytest.raises(ValueError, match="only q, k, v, o exist"):
        Insertions(projections={1: {"qkv": Adapter()}})


# -- images ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visual():
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(2)
    return VisionTransformer(32, 8, 64, 4, 2, 4.0, output_dim=48).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 32, 32, dtype=torch.float64)


def image_rows(*shape):
    return nn.Parameter(torch.randn(*shape, 64, dtype=torch.float64))


def test_an_image_encoder_without_insertions_is_the_model_s_own(visual, images):
    found = encode_tokens(visual, images)
    assert torch.equal(found.features, visual(images)) and found.patches.shape == (2, 16, 64)
    assert found.inserted.shape == (2, 0, 64)


def test_inserted_rows_of_an_image(visual, images):
    """VPT: rows pass ln_pre, are read by the others, and are replaced before each of the layers."""
    first, second = image_rows(2), image_rows(2)
    x = torch.cat([visual._embeds(images), visual.ln_pre(first).expand(2, -1, -1)], dim=1)
    x = visual.transformer.resblocks[0](x)
    x = torch.cat([second.expand(2, -1, -1), x[:, :17]], dim=1)  # their place does not matter
    for block in visual.transformer.resblocks[1:]:
        x = block(x)
    expected = visual.ln_post(x[:, 2]) @ visual.proj
    found = encode_tokens(visual, images, Insertions(embedded_rows=first, rows={1: second}))
    assert torch.allclose(found.features, expected, rtol=0, atol=1e-12)
    assert torch.allclose(found.inserted, x[:, :2], rtol=0, atol=1e-11)
    own = Insertions(embedded_rows=torch.stack([first, second]), rows={1: torch.stack([second, second])})  # of each image
    assert torch.allclose(encode_tokens(visual, images, own).features[0], expected[0], rtol=0, atol=1e-12)


def test_changed_projections_equal_changed_weights(visual, images):
    """A linear branch beside q, k, v and o is the same as other weights in the model's own block."""
    branches = {name: nn.Linear(64, 64, bias=False, dtype=torch.float64) for name in "qkvo"}
    changed = copy.deepcopy(visual)
    attn = changed.transformer.resblocks[2].attn
    with torch.no_grad():
        attn.in_proj_weight += torch.cat([branches[name].weight for name in "qkv"])
        attn.out_proj.weight += branches["o"].weight
    found = encode_tokens(visual, images, Insertions(projections={2: branches})).features
    assert torch.allclose(found, changed(images), rtol=0, atol=1e-12)


def test_modules_of_an_image_encoder(visual, images):
    beside, after = Adapter(64), Adapter(64)
    x = visual._embeds(images)
    for i, block in enumerate(visual.transformer.resblocks):
        y = block(x)
        y = y + beside(block.ln_1(x)) if i == 1 else y
        x = after(y) if i == 3 else y
    expected = visual.ln_post(x[:, 0]) @ visual.proj
    for checkpointing in (False, True):
        found = encode_tokens(visual, images, Insertions(beside={1: beside}, after={3: after}), checkpointing)
        assert torch.allclose(found.features, expected, rtol=0, atol=1e-12)
        (gradient,) = torch.autograd.grad(found.features.square().sum(), beside.up.weight)
        (plain,) = torch.autograd.grad(expected.square().sum(), beside.up.weight, retain_graph=True)
        assert torch.allclose(gradient, plain, rtol=1e-10)


def test_layers_that_an_image_encoder_lacks(visual, images):
    with pytest.raises(UserError, match="ViT-X's image encoder has 4 layers"):
        encode_tokens(visual, images, Insertions(rows={4: image_rows(1)}), name="ViT-X")


def test_a_resnet_has_patch_tokens_but_no_layers():
    from open_clip.modified_resnet import ModifiedResNet

    visual = ModifiedResNet((1, 1, 1, 1), 32, 2, image_size=64, width=8).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = encode_tokens(visual, images)
        assert torch.equal(found.features, visual(images)) and found.patches.shape == (2, 4, 256)
    with pytest.raises(UserError, match="RN50's image encoder is no vision transformer"):
        encode_tokens(visual, images, Insertions(beside={0: Adapter()}), name="RN50")
