"""The committed model: open_clip loads it, it knows the templates' words, the sets are as informative as said."""

import hashlib
import re
from pathlib import Path

import open_clip
import pytest
import torch

from datasets.builtin import sets
from models import score
from prompting.templates import SELECTED_TEMPLATES

FOLDER = Path(__file__).resolve().parents[2] / "models" / "builtin"
VIT = FOLDER.with_name("builtin_vit")
TEMPLATES = FOLDER.parents[1] / "templates"

# Zero-shot accuracy over all classes, from and to; and how far a linear probe and CoOp lie above zero-shot on base
# classes (one seed here, to be quick; the README has the mean of three).
ZERO_SHOT = {"digits": (75, 95), "letters": (50, 85), "shapes": (35, 75), "textures": (60, 95)}
PROBE_GAIN = {"digits": 5, "letters": 15, "shapes": 15}
COOP_GAIN = {"digits": 4, "letters": 4}


ROW = r"^\| (\w+) \| \d+ \| ([\d.]+) \|"


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return score.load(FOLDER)


@pytest.fixture(scope="module")
def features(model):
    made = {}
    return lambda name: made.setdefault(name, score.Features(model, name))


def lines(name):
    text = (TEMPLATES / f"{name}.txt").read_text().splitlines()
    return [line for line in text if line and not line.startswith("#")]


@pytest.mark.parametrize("folder", [FOLDER, VIT])
def test_weights_are_those_of_the_record(folder):
    digest = hashlib.sha256((folder / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert digest in (FOLDER / "README.md").read_text()


def test_the_vit_has_the_same_text_encoder(model):
    other, own = score.load(VIT).state_dict(), model.state_dict()
    text = [name for name in own if not name.startswith("visual.") and name != "logit_scale"]
    assert text and all(torch.equal(own[name], other[name]) for name in text)
    assert {n for n in other if not n.startswith("visual.")} == {*text, "logit_scale"}


def test_open_clip_loads_the_folder():
    model, _, view = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{FOLDER}")
    model.eval()
    image = view(score.Image.fromarray(sets.make("letters_sketch")["test"][0][0]))
    assert image.shape == (3, 64, 64)
    tokens = tokenizer(["a sketch of a letter a.", "a sketch of a letter q.", "a dark photo of a star."])
    with torch.no_grad():
        similarity = model.encode_image(image[None], normalize=True) @ model.encode_text(tokens, normalize=True).T
    assert similarity.argmax() == 0


def test_transform_is_open_clips():
    view = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")[2]
    image = score.Image.fromarray(sets.make("letters_sketch")["test"][0][0])
    assert torch.equal(view(image), score.transform()(image))


@pytest.mark.parametrize("name", ["digits", "letters", "shapes", "textures"])
def test_every_word_of_the_templates_was_met(model, name):
    templates = lines(name)
    assert len(templates) == len(set(templates)) and all(t.count("{}") == 1 for t in templates)
    texts = [t.format(c) for c in sets.CLASSES[name] for t in templates + list(SELECTED_TEMPLATES)]
    tokens = open_clip.tokenize(texts)
    known = model.token_embedding.weight.abs().sum(1) > 0
    unknown = {texts[i] for i, _ in torch.nonzero((tokens > 0) & ~known[tokens]).tolist()}
    assert not unknown


def test_words_that_training_never_met_are_zero(model):
    known = model.token_embedding.weight.abs().sum(1) > 0
    assert 250 < known.sum() < 400
    assert not known[open_clip.tokenize("giraffe")[0, 1]]


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_zero_shot(features, name):
    low, high = ZERO_SHOT[name]
    assert low <= features(name).zero_shot("all") <= high


@pytest.mark.parametrize("name", PROBE_GAIN)
def test_linear_probe_gains(features, name):
    assert features(name).linear_probe(seed=1) >= features(name).zero_shot("base") + PROBE_GAIN[name]


@pytest.mark.parametrize("name", COOP_GAIN)
def test_coop_gains_on_base_classes(features, name):
    base, _ = features(name).coop(seed=1)
    assert base >= features(name).zero_shot("base") + COOP_GAIN[name]


@pytest.mark.parametrize("style", sets.LETTER_STYLES)
def test_styles_are_between_chance_and_solved(features, style):
    assert 10 <= features(f"letters_{style}").zero_shot("all") <= 90


def test_record_has_the_measured_numbers(features):
    """The table in the README is what the model scores (a tenth of a point apart at most)."""
    resnet, _, vit = (FOLDER / "README.md").read_text().partition("## The vision transformer")
    rows = re.findall(ROW, resnet, re.M)
    assert {name for name, _ in rows} == set(sets.CLASSES)
    for name, value in rows:
        assert features(name).zero_shot("all") == pytest.approx(float(value), abs=0.3)
    other, rows = score.load(VIT), re.findall(ROW, vit, re.M)
    assert {name for name, _ in rows} == set(sets.CLASSES)
    for name, value in rows:
        assert score.Features(other, name).zero_shot("all") == pytest.approx(float(value), abs=0.3)
