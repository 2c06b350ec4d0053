"""Text towers of other families: exact against the model's own encode_text, with its own tokens, filling and read-out."""

import open_clip
import pytest
import torch
from open_clip import CLIPTextCfg

from basics import UserError
from prompting import Insertions, context_programs, hard_programs, load_clip, soft_parts, template_programs
from prompting.plain_tower import PlainTower
from prompting.tower import TextTower
from tests.prompting import towers

NAMES = ["cat", "red fox", "long haired hamster"]
TEMPLATES = ["a photo of a {}.", "{} texture.", "art of the {} in a game."]


@pytest.fixture(params=towers.FAMILIES)
def loaded(request, monkeypatch, tmp_path):
    """(CLIP, open_clip's model, open_clip's tokenizer) of a family."""
    towers.stand_in(monkeypatch, lambda name: towers.Words(before=(), behind=(1,)))
    folder, model = towers.folder_of(request.param, tmp_path / "model")
    return load_clip(folder), model, open_clip.get_tokenizer(f"local-dir:{folder}")


def own(model, tokenizer, texts):
    with torch.no_grad():
        return model.encode_text(tokenizer(texts), normalize=False)


def close(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item() < 1e-6


def test_hard_prompts(loaded):
    clip, model, tokenizer = loaded
    assert isinstance(clip.text, PlainTower) and clip.embed_dim == 32
    plan = clip.text.compile([hard_programs(t, NAMES, clip.tokenizer) for t in TEMPLATES])
    features = clip.encode_text(plan, raw=True)
    for t, row in zip(TEMPLATES, features):
        assert close(row, own(model, tokenizer, [t.replace("{}", name) for name in NAMES]))


def test_learned_rows_that_are_the_words_give_the_words_features(loaded):
    clip, model, tokenizer = loaded
    for template in TEMPLATES:
        before, after, _ = soft_parts(template, clip.tokenizer)
        learned = clip.text.embed(torch.tensor([*before, *after])).detach().requires_grad_()
        plan = clip.text.compile([template_programs(template, NAMES, tokenizer=clip.tokenizer)])
        features = clip.encode_text(plan, learned, raw=True)[0]
        assert close(features.detach(), own(model, tokenizer, [template.replace("{}", name) for name in NAMES]))
        (grad,) = torch.autograd.grad(features.square().sum(), learned)
        (again,) = torch.autograd.grad(clip.encode_text(plan, learned, True, raw=True)[0].square().sum(), learned)
        assert grad.abs().sum(-1).min() > 0 and torch.allclose(grad, again, atol=1e-6)


def test_learned_vectors_reach_the_feature_as_embeddings(loaded):
    """A row that is learned in one copy and not in another changes that copy alone."""
    clip, *_ = loaded
    rows = torch.randn(2 * 3, clip.width)
    plan = clip.text.compile([context_programs(NAMES, 3, tokenizer=clip.tokenizer)])
    tiled = clip.encode_text(plan.tile(2, 3), rows, raw=True)
    assert close(tiled[1], clip.encode_text(plan, rows[3:], raw=True)[0]) and not torch.equal(tiled[0], tiled[1])


def test_images_and_logits_are_the_models(loaded):
    clip, model, tokenizer = loaded
    images = torch.randn(2, 3, 32, 32)
    assert close(clip.encode_image(images, raw=True), model.encode_image(images, normalize=False).detach())
    if model.logit_bias is not None:
        text = clip.encode_text(clip.text.compile([hard_programs(TEMPLATES[0], NAMES, clip.tokenizer)]))[0]
        theirs, _ = model.get_logits(images, tokenizer([TEMPLATES[0].replace("{}", name) for name in NAMES]))
        ours = clip.logit_scale * clip.encode_image(images) @ text.t() + clip.logit_bias
        assert clip.logit_bias == -10 and torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16"])
def test_precision(loaded, precision, tmp_path):
    clip, *_ = loaded
    lower = load_clip(clip.name, precision=precision)
    plan = clip.text.compile([hard_programs(TEMPLATES[0], NAMES, clip.tokenizer)])
    assert (lower.encode_text(plan) - clip.encode_text(plan)).abs().max() < 3e-2


def test_layers_are_refused_by_name(loaded):
    clip, *_ = loaded
    plan = clip.text.compile([hard_programs(TEMPLATES[0], NAMES, clip.tokenizer)])
    for ask in (lambda: clip.text.blocks, lambda: clip.encode_text(plan, insertions=Insertions(rows={1: torch.zeros(1, 64)})),
                lambda: clip.text.compile([[[1]]], later={1: [[[0]]]})):  # fmt: skip
        with pytest.raises(UserError, match="nothing can be learned inside its layers"):
            ask()


def test_another_vocabulary_is_refused(monkeypatch, tmp_path):
    towers.stand_in(monkeypatch, lambda name: towers.Words(entries=401))
    with pytest.raises(UserError, match="embeddings of 400 tokens.*has 401"):
        load_clip(towers.folder_of("SigLIP", tmp_path / "model")[0])


def test_a_hugging_face_tower(tmp_path):
    from open_clip.hf_model import HFTextEncoder

    path, model = towers.hugging_face_folder(tmp_path)
    tokenizer, clip = open_clip.get_tokenizer(f"local-dir:{path}"), load_clip(path)
    assert isinstance(model.text, HFTextEncoder) and (clip.tokenizer.start, clip.tokenizer.end, clip.tokenizer.pad) == (
        (0,),
        (2,),
        1,
    )
    names, template = ["cat", "red fox"], "a photo of a {}."
    texts = [template.replace("{}", name) for name in names]
    plan = clip.text.compile([hard_programs(template, names, clip.tokenizer)])
    assert close(clip.encode_text(plan, raw=True)[0], own(model, tokenizer, texts))
    before, after, _ = soft_parts(template, clip.tokenizer)
    learned = clip.text.embed(torch.tensor([*before, *after]))
    plan = clip.text.compile([template_programs(template, names, tokenizer=clip.tokenizer)])
    assert close(clip.encode_text(plan, learned, raw=True)[0].detach(), own(model, tokenizer, texts))


@pytest.mark.skipif(not hasattr(CLIPTextCfg, "eos_id"), reason="this open_clip reads no tower at an end token of its own")
def test_a_causal_tower_with_its_own_vocabulary_is_packed(monkeypatch, tmp_path):
    """As MetaCLIP 2's: read at the end token of another vocabulary than CLIP's."""
    text = {
        "hf_tokenizer_name": "words",
        "vocab_size": 400,
        "pool_type": "eos",
        "eos_id": 2,
        "context_length": 16,
        **towers.SMALL,
    }
    monkeypatch.setitem(towers.FAMILIES, "MetaCLIP 2", {"text_cfg": text})
    towers.stand_in(monkeypatch, lambda name: towers.Words(before=(0,), behind=(2,)))
    folder, model = towers.folder_of("MetaCLIP 2", tmp_path / "model")
    clip, tokenizer = load_clip(folder), open_clip.get_tokenizer(f"local-dir:{folder}")
    assert isinstance(clip.text, TextTower) and clip.tokenizer.context_length == 16
    for template in TEMPLATES:
        theirs = own(model, tokenizer, [template.replace("{}", name) for name in NAMES])
        assert close(clip.encode_text(clip.text.compile([hard_programs(template, NAMES, clip.tokenizer)]), raw=True)[0], theirs)
        before, after, _ = soft_parts(template, clip.tokenizer)
        plan = clip.text.compile([template_programs(template, NAMES, tokenizer=clip.tokenizer)])
        assert close(clip.encode_text(plan, clip.text.embed(torch.tensor([*before, *after])), raw=True)[0].detach(), theirs)
    towers.stand_in(monkeypatch, lambda name: towers.Words(before=(0,), behind=(3,)))
    with pytest.raises(UserError, match="is read at token 2 .eos., but words ends prompts with token 3"):
        load_clip(folder)
