"""Pre-training: it repeats, goes on from a checkpoint with the same result, and exports what open_clip loads."""

import pathlib

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models import pretrain
from models.score import transform


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


BUILTIN = pathlib.Path(pretrain.__file__).parent / "builtin"
WAYS = {"resnet": {"kind": "resnet"}, "vit": {"kind": "vit", "teacher": str(BUILTIN), "half": False}}


def run(folder, **options):
    checkpoint = folder.with_suffix(".pt")
    pretrain.train(folder, checkpoint=checkpoint, steps=3, size=6, lr=1e-3, seed=5, save_every=2, **options)
    return load_file(folder / "open_clip_model.safetensors")


@pytest.mark.parametrize("way", WAYS)
def test_interrupted_training_ends_like_an_uninterrupted_one(way, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", **WAYS[way])

    def stop(*args):
        saved(*args)
        raise KeyboardInterrupt

    saved = pretrain.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", **WAYS[way])
    assert not (tmp_path / "parts").exists()
    parts = run(tmp_path / "parts", **WAYS[way])
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


@pytest.mark.parametrize("kind", pretrain.MODELS)
def test_export_says_the_same_in_open_clip(kind, tmp_path):
    vocabulary = pretrain.Vocabulary()
    model, _ = pretrain.build(kind, 0, vocabulary)
    model.eval()
    met = torch.ones(len(vocabulary), dtype=torch.bool)
    met[vocabulary.row[open_clip.tokenize("fish")[0, 1]]] = False
    pretrain.export(tmp_path, kind, model, vocabulary, met)
    loaded = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    texts = ["a photo of a letter a.", "several houses"]
    with torch.no_grad():
        ours = pretrain.encode_text(model, vocabulary, pretrain.tokenize(texts))
        theirs = loaded.encode_text(open_clip.tokenize(texts))
        images = pretrain.normalise(pretrain.preprocess(pretrain.world.batch(0, 0, 2)[0]))
        assert torch.allclose(model.visual(images), loaded.encode_image(images), atol=2e-2)
    assert torch.allclose(ours, theirs, atol=2e-2)
    assert loaded.token_embedding.weight[open_clip.tokenize("fish")[0, 1]].abs().sum() == 0
    assert loaded.token_embedding.weight.shape == (49408, 128)


def test_pretraining_sees_images_as_the_test_transform_does():
    images = pretrain.world.batch(0, 1, 4)[0]
    ours = pretrain.normalise(pretrain.preprocess(images))
    theirs = torch.stack([transform()(Image.fromarray(a)) for a in images])
    assert (ours - theirs).abs().max() < 0.05  # one grey level is .015


@pytest.mark.parametrize("way", WAYS)
def test_learns_something_in_a_few_steps(way, tmp_path):
    vocabulary = pretrain.Vocabulary()
    model, heads = pretrain.build(WAYS[way]["kind"], 0, vocabulary)
    teacher = pretrain.Teacher(BUILTIN, model, vocabulary) if way == "vit" else None
    optimizer = pretrain.build_optimizer(model, heads, 2e-3)
    batch = pretrain.World(0, 1, 16)[0]
    losses = []
    for _ in range(12):
        contrastive, auxiliary = pretrain.loss_of(model, heads, vocabulary, batch, 0.0, way != "vit", teacher)
        optimizer.zero_grad()
        (contrastive + auxiliary).backward()
        optimizer.step()
        losses.append((contrastive + auxiliary).item())
    assert losses[-1] < 0.8 * losses[0]
    assert pretrain.loss_of(model, heads, vocabulary, batch, 0.9)[1] == 0.0


def test_a_teachers_text_encoder_stays(tmp_path):
    learned, taught = run(tmp_path / "learned", **WAYS["vit"]), load_file(BUILTIN / "open_clip_model.safetensors")
    text = [name for name in learned if not name.startswith("visual.") and name != "logit_scale"]
    assert text and all(torch.equal(learned[name], taught[name]) for name in text)
