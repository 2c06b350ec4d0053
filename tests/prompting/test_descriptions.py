"""Descriptions of classes: CuPL's JSON, cutting, groups of sentences, and the number of groups by silhouette."""

import json

import numpy as np
import pytest

from basics import UserError
from prompting import group_templates as gt
from prompting import load_clip, read_groups
from prompting.clustering import k_means, silhouettes
from prompting.descriptions import matched, read_descriptions, sentence_programs, sentences_of
from prompting.tokens import clip_tokenizer
from tests.prompting.test_group_templates import TEMPLATES, features

CUPL = {
    "Sea lake": ["A sea lake is blue.", "Seen from above,  it is a dark area.", "A sea lake is blue."],
    "forest": ["A forest is green.", "Seen from above, it is a green area."],
    "river": ["A river winds."],
}


@pytest.fixture
def cupl(tmp_path):
    path = tmp_path / "cupl.json"
    path.write_text(json.dumps(CUPL))
    return path


def test_silhouette_finds_the_groups_that_are_there():
    """Against the definition, written out: (b - a) / max(a, b), mean over texts; a text alone in its group counts 0."""
    found = silhouettes(TEMPLATES, features(), 8)
    assert max(found, key=found.get) == 3 and set(found) == set(range(2, 9))
    order = sorted(range(len(TEMPLATES)), key=lambda i: TEMPLATES[i])
    x = features()[order]
    for number, value in found.items():
        labels, each = k_means(x, number, 0).labels_, []
        for i in range(len(x)):
            mean = {g: [np.linalg.norm(x[i] - x[j]) for j in range(len(x)) if labels[j] == g and j != i] for g in set(labels)}
            own = mean.pop(labels[i])
            if not own:
                each.append(0.0)
                continue
            a, b = np.mean(own), min(map(np.mean, mean.values()))
            each.append((b - a) / max(a, b))
        assert value == pytest.approx(np.mean(each))
    with pytest.raises(UserError, match="at least three"):
        silhouettes(TEMPLATES[:2], features()[:2], 8)


def test_reading(cupl):
    found = read_descriptions(cupl)
    assert found["Sea lake"] == ("A sea lake is blue.", "Seen from above, it is a dark area.")  # each once
    assert matched(["sea_lake", "River"], found, "here") == ["Sea lake", "river"]
    with pytest.raises(UserError, match="here: no descriptions of 1 of 2 classes, first 'desert'"):
        matched(["river", "desert"], found, "here")


@pytest.mark.parametrize("content", ["[]", "{}", '{"river": "A river."}', '{"river": [1]}', '{"river": ["a\\u0007"]}', "{"])
def test_what_is_no_description(content, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match="bad.json"):
        read_descriptions(path)


def test_long_sentences_are_cut_as_cupl_cuts():
    """Against open_clip's tokenizer, which cuts like clip.tokenize(…, truncate=True)."""
    import open_clip

    sentences = ["A river winds.", "a very long river " * 40]
    programs, cut = sentence_programs(sentences)
    assert cut == 1 and max(map(len, programs)) == clip_tokenizer().context_length
    theirs = open_clip.get_tokenizer("ViT-B-16")(sentences)
    for program, row in zip(programs, theirs.tolist()):
        assert row[: len(program)] == program and not any(row[len(program) :])


def test_groups_of_sentences(cupl, tiny_file, tmp_path, capsys):
    out = tmp_path / "groups.json"
    words = ["--descriptions", str(cupl), "--path", tiny_file, "--out", str(out)]
    assert gt.main([*words, "--groups", "2", "--start", "a satellite photo of a {}."]) == 0
    groups = read_groups(out)
    assert len(groups) == 2 and {g.templates for g in groups} == {("a satellite photo of a {}.",)}
    sentences = sorted(text for g in groups for _, texts in g.sentences for text in texts)
    assert sentences == sorted(text for texts in read_descriptions(cupl).values() for text in texts)
    assert gt.main([*words, "--groups", "auto", "--most", "4"]) == 0
    printed = capsys.readouterr().out
    assert "Mean silhouette: 2 groups" in printed
    assert ("Note: the silhouette is highest at the largest number tried" in printed) == (len(read_groups(out)) == 4)
    by_class = sentences_of(groups, ["river", "sea_lake"])
    assert len(by_class) == 2 and all(len(texts) == 2 and all(texts) for texts in by_class)  # none is empty
    whole = {name: set(texts) for name, texts in read_descriptions(cupl).items()}
    for group, texts in zip(groups, by_class):
        own = dict(group.sentences).get("river")
        assert set(texts[0]) == (set(own) if own else whole["river"])


def test_a_sentences_kind_is_what_its_class_does_not_explain(cupl, tiny_file):
    clip = load_clip("ViT-B/16", tiny_file)
    pairs = [(name, text) for name, texts in read_descriptions(cupl).items() for text in texts]
    ours = gt.kinds_of_sentences(clip, pairs)
    lakes = [i for i, (name, _) in enumerate(pairs) if name == "Sea lake"]
    np.testing.assert_allclose(ours[lakes[0]], -ours[lakes[1]], atol=1e-6)  # of two, each less their mean
    np.testing.assert_allclose(np.linalg.norm(ours[lakes], axis=1), 1, atol=1e-6)
    assert np.abs(ours[[name for name, _ in pairs].index("river")]).max() < 1e-3  # the only one of its class


@pytest.mark.parametrize("words, named", [
    (("--groups", "many"), "give a number, or auto"), (("--groups", "2", "--out", "x.txt"), "ends in .json"),
    (("--groups", "2", "--classes", "a,b"), "name their classes themselves"), (("--groups", "2", "--start", "a {} {}"), "one {}"),
])  # fmt: skip
def test_words_that_do_not_go_together(words, named, cupl, tmp_path, capsys):
    assert gt.main(["--descriptions", str(cupl), "--out", str(tmp_path / "x.json"), *words]) == 2
    assert named in capsys.readouterr().err
