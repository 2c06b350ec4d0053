"""Pictures of predictions: the true class where it is known, and pages of a PDF."""

import re

import pytest
from PIL import Image

from inference import picture

RESULTS = {"trainer": "CoOp", "dataset": "EuroSAT", "backbone": "ViT-B/16"}


@pytest.fixture
def predictions(tmp_path):
    image = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(image)
    classes = [{"name": "river", "probability": 0.6}, {"name": "forest", "probability": 0.4}]
    return [{"image": str(image), "classes": classes, "truth": "forest"} for _ in range(17)]


def test_the_true_class_is_named_and_green(predictions, tmp_path):
    picture(predictions[:1], tmp_path / "p.svg", RESULTS)
    text = (tmp_path / "p.svg").read_text()
    assert "true class: forest" in text and "the true one in green" in text
    assert text.count("fill: #2ca02c") == 1  # one bar
    picture([{**predictions[0], "truth": None}], tmp_path / "q.svg", RESULTS)
    assert "true class" not in (tmp_path / "q.svg").read_text()


def test_a_pdf_has_pages_of_eight_images(predictions, tmp_path):
    picture(predictions, tmp_path / "p.pdf", RESULTS)
    content = (tmp_path / "p.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", content)) == 3
