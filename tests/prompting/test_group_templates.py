"""Grouping templates by their features: right, stable, and a file that MoCoOp reads; the group files of Table 7."""

import numpy as np
import pytest

from basics import UserError, home
from prompting import group_templates as gt
from prompting import read_groups

TEMPLATES = [
    "a photo of a {}.", "a picture of a {}.", "a pixelated photo of a {}.", "a drawing of a {}.", "a sketch of a {}.",
    "a blurry pixelated photo of a {}.", "a pixelated photo of the {}.", "a photo of the {}.", "a drawing of the {}.",
]  # fmt: skip
KIND = [0, 0, 1, 2, 2, 1, 1, 0, 2]  # the group that each belongs to, in the order of first mention
OFFSET = [0.0, 0.2, 0.1, 0.1, 0.3, 0.3, 0.0, 0.1, 0.0]  # along which members of a group differ


def features():
    """[9, 3] unit features: three directions, members of a group a little apart."""
    x = np.eye(3)[KIND] + np.array(OFFSET)[:, None] * np.array([0.3, 0.2, -0.1])
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_are_there_are_found(seed):
    """Whatever the seed and the order of the templates; the nearest to the centre comes first."""
    shuffle = np.random.default_rng(seed).permutation(len(TEMPLATES))
    groups = gt.cluster([TEMPLATES[i] for i in shuffle], features()[shuffle], 3, seed)
    found = {frozenset(g.templates) for g in groups}
    assert found == {frozenset(t for t, k in zip(TEMPLATES, KIND) if k == kind) for kind in range(3)}
    for group in groups:
        rows = features()[[TEMPLATES.index(t) for t in group.templates]]
        distance = np.linalg.norm(rows - rows.mean(axis=0), axis=1)
        assert (np.diff(distance) >= -1e-9).all()
    in_order = gt.cluster(TEMPLATES, features(), 3, seed)
    by_mention = sorted((g.templates for g in groups), key=lambda ts: min(map(TEMPLATES.index, ts)))
    assert [g.templates for g in in_order] == by_mention
    assert [g.name for g in in_order] == ["a photo of the ...", "Pixelated", "Drawing"]


def test_group_numbers_that_cannot_be():
    for number in (0, 10):
        with pytest.raises(UserError, match="1 to 9 groups"):
            gt.cluster(TEMPLATES, features(), number)
    same = np.ones((9, 4)) / 2
    with pytest.raises(UserError, match="tells only 1 of the templates apart"):
        gt.cluster(TEMPLATES, same, 2)
    assert len(gt.cluster(TEMPLATES, features(), 9)) == 9 and len(gt.cluster(TEMPLATES, same, 1)) == 1


def test_names_are_different():
    names = gt.group_names([["a photo of a {}."], ["the photo of a {}."], ["itap of {}s."], ["a photo of a {}."]])
    assert names == ["a photo of a ...", "the photo of a ...", "Itap", "a photo of a ... (4)"]


@pytest.fixture(scope="module")
def one_file(tmp_path_factory):
    """Templates as users have them: a heading, an empty line, one template twice, in capitals the second time."""
    path = tmp_path_factory.mktemp("templates") / "all.txt"
    path.write_text("# mine\n" + "\n".join(TEMPLATES[:5]) + "\n\n" + "\n".join(TEMPLATES[5:]) + "\nA photo of a {}.\n")
    return path


def test_command_line(one_file, tiny_file, tmp_path, capsys):
    """The file holds each template once, can be read, is the same every time; the templates' order doesn't matter."""
    words = ["--path", tiny_file, "--groups", "4", "--classes", "river,sea_lake", "--seed", "3"]
    files = [tmp_path / "new" / name for name in ("a.txt", "b.txt", "c.txt")]
    reversed_file = tmp_path / "reversed.txt"
    reversed_file.write_text("\n".join(reversed(TEMPLATES)))
    for source, target in zip((one_file, one_file, reversed_file), files):
        assert gt.main(["--templates", str(source), "--out", str(target), *words]) == 0
    assert "Written to" in capsys.readouterr().out
    groups = [read_groups(file) for file in files]
    assert len(groups[0]) == 4 and sorted(t for g in groups[0] for t in g.templates) == sorted(TEMPLATES)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert {g.templates for g in groups[0]} == {g.templates for g in groups[2]}
    assert "river, sea_lake" in files[0].read_text() and all(not g.name.startswith("group") for g in groups[0])


def test_features_are_means_over_class_names(tiny_file):
    """By hand: the mean of the unit features of the filled-in prompts, made unit again."""
    from prompting import build_plan, hard_programs, load_clip

    clip = load_clip("ViT-B/16", tiny_file)
    ours = gt.template_features(clip, TEMPLATES[:3], ["cat", "red_fox"])
    plan = build_plan([hard_programs(TEMPLATES[2], ["cat", "red_fox"])])
    by_hand = clip.encode_text(plan)[0].mean(dim=0)
    np.testing.assert_allclose(ours[2], (by_hand / by_hand.norm()).numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_bad_input(one_file, tiny_file, tmp_path, capsys):
    broken = tmp_path / "broken.txt"
    broken.write_text("a photo of a {}.\na photo.\n")
    out = ["--out", str(tmp_path / "out.txt"), "--path", tiny_file]
    (tmp_path / "file").write_text("")
    cases = [
        ("broken.txt:2", "--templates", str(broken), "--groups", "1", *out),
        ("no-such", "--templates", "no-such.txt", "--groups", "1", *out),
        ("1 to 9 groups", "--templates", str(one_file), "--groups", "12", *out),
        ("no class name", "--templates", str(one_file), "--groups", "2", "--classes", ",", *out),
        ("no such file: gone.pt", "--templates", str(one_file), "--groups", "2", *out, "--path", "gone.pt"),
        ("cannot write", "--templates", str(one_file), "--groups", "2", *out, "--out", str(tmp_path / "file" / "x")),
    ]
    for message, *words in cases:
        assert gt.main(words) == 2
        loading, err = capsys.readouterr().err.split("\n", 1)
        assert loading == "Loading ViT-B/16" and err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("number", (3, 5, 6, 8))
@pytest.mark.parametrize("dataset", ("caltech101", "eurosat", "ucf101", "oxford_flowers"))
def test_expert_files(dataset, number):
    """As many groups as the name says; the released ones where they fit, else merged or joined by the paper's own."""
    released = read_groups(home.PROJECT / "templates" / f"{dataset}.txt")
    groups = read_groups(home.PROJECT / "templates" / "experts" / f"{dataset}_{number}.txt")
    templates = [t for g in groups for t in g.templates]
    assert len(groups) == number == len({g.name for g in groups}) and len(set(templates)) == len(templates)
    assert groups[0] == released[0]
    if number == len(released):
        assert groups == released
    elif number < len(released):
        assert sorted(templates) == sorted(t for g in released for t in g.templates)
        assert [g for g in groups if g.name != "Plain photo"] == [g for g in released if g in groups]
    else:
        known = {t for file in (home.PROJECT / "templates").glob("*.txt") for g in read_groups(file) for t in g.templates}
        assert groups[: len(released)] == released and set(templates) <= known
