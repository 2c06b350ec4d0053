"""Templates: parts in BPE tokens, group files, and messages that name file and line."""

from pathlib import Path

import pytest

import datasets  # noqa: F401  (registers)
from basics import home
from dassl.data.datasets import DATASET_REGISTRY
from prompting import UserError, encode, group_file, read_groups, soft_parts, template_for
from prompting.plan import learned
from prompting.soft import context_programs, template_programs, word_programs
from prompting.tokens import EOT, SOT


@pytest.mark.parametrize("template, before, after", [
    ("itap of a {}.", 4, 0),  # three words, four tokens
    ("a close-up photo of a {}.", 7, 0),  # five words, seven tokens
    ("{} texture.", 0, 1),
    ("a {} in a video game.", 1, 4),
    ("a photo of a {}, a type of pet.", 4, 5),
])  # fmt: skip
def test_context_is_counted_in_tokens(template, before, after):
    ids_before, ids_after, stop = soft_parts(template)
    assert (len(ids_before), len(ids_after), stop) == (before, after, encode("."))
    words = template.replace("{}", "cat")
    assert ids_before + encode("cat") + ids_after + stop == encode(words)


def test_programs_put_the_class_name_where_it_belongs():
    name = encode("pay phone")
    end, middle, front = (context_programs(["pay_phone"], 3, p)[0] for p in ("end", "middle", "front"))
    v = [learned(i) for i in range(3)]
    assert end == [SOT, *v, *name, *encode("."), EOT]
    assert middle == [SOT, v[0], *name, *v[1:], *encode("."), EOT]
    assert front == [SOT, *name, *v, *encode("."), EOT]
    (soft,) = template_programs("a {} in a video game.", ["pay_phone"], offset=7)
    assert soft == [SOT, learned(7), *name, *(learned(i) for i in range(8, 12)), *encode("."), EOT]


def test_a_prompt_longer_than_77_tokens_is_an_error():
    with pytest.raises(UserError, match="77 at most"):
        context_programs(["word " * 80], 4)


@pytest.mark.parametrize(
    "template, stop, expected",
    [  # L0, L1 …: learned vectors; as the released code lays out the same prompts
        ("{} texture.", True, "< cat L0 L1 >"),  # the second vector, in place of the full stop
        ("{} texture.", False, "< cat L0 L1"),  # the second vector, in place of the end token
        ("a close-up photo of the {}.", True, "< L0 L1 L2 L3 L4 of the cat . >"),  # 7 tokens, 5 words
        ("a photo of a  {}.", True, "< L0 L1 L2 L3 L4 . >"),  # the fifth vector, in place of the class name
        ("a {} in a video game.", False, "< L0 cat L1 L2 L3 L4 L5"),
    ],
)
def test_vectors_counted_in_words(template, stop, expected):
    (program,) = word_programs(template, ["cat"], stop=stop)
    words = {49406: "<", 49407: ">", **{encode(w)[0]: w for w in ("cat", "of", "the", ".")}}
    assert " ".join(words[i] if i >= 0 else f"L{-1 - i}" for i in program) == expected


def test_every_group_file_is_well_formed():
    files = sorted((home.PROJECT / "templates").rglob("*.txt"))
    assert len(files) >= 20
    for file in files:
        groups = read_groups(file, doubled_blanks=file.parent.name == "released")
        assert 3 <= len(groups) <= 20, file
        assert all(g.templates for g in groups) and len({g.name for g in groups}) == len(groups), file
        flat = [t for g in groups for t in g.templates]
        assert len(set(flat)) == len(flat), file


def test_groups_have_the_published_sizes():
    sizes = {"eurosat": [1, 1, 2, 2, 4, 2], "caltech101": [1, 1, 1, 4, 2], "imagenet": 20, "imagenet_a": 16, "food101": 4}
    for name, expected in sizes.items():
        found = [len(g.templates) for g in read_groups(home.PROJECT / "templates" / f"{name}.txt")]
        assert found == expected or len(found) == expected


@pytest.mark.parametrize("text, line, message", [
    ("a photo of a cat.\n", 1, "exactly one {}"),
    ("# x\na {} and a {}.\n", 2, "exactly one {}"),
    ("a {}.\n\na photo of  a {}.\n", 3, "two blanks"),
    ("a {} {0}.\n", 1, "only an empty pair"),
    ("a {}\x1b[31m.\n", 1, "control character"),
])  # fmt: skip
def test_errors_name_file_and_line(tmp_path, text, line, message):
    file = tmp_path / "groups.txt"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read_groups(file)
    assert f"{file}:{line}" in str(error.value) and message in str(error.value)


def test_empty_missing_and_binary_files(tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe{}")
    for name in ("empty.txt", "binary.txt", "missing.txt"):
        with pytest.raises(UserError, match=name):
            read_groups(tmp_path / name)


def test_names_of_groups_come_from_comments(tmp_path):
    file = tmp_path / "g.txt"
    file.write_text("# about this file\n\n# Plain\na {}.\nthe {}. # a remark\n\nmany {}.\n")
    assert [(g.name, g.templates) for g in read_groups(file)] == [("Plain", ("a {}.", "the {}.")), ("group 2", ("many {}.",))]


def test_what_a_dataset_class_says():
    """Attributes of the project's classes and of users' own; a class written for Dassl has none."""
    known = DATASET_REGISTRY.get
    assert template_for(known("DescribableTextures")) == "{} texture."
    assert template_for(known("DescribableTextures"), "ProGrad") == "a texture of {}."
    assert template_for(known("OxfordPets"), "KgCoOp") == "a photo of a {}, a type of pet."  # as CoOp's
    assert Path(group_file(known("DescribableTextures"))).name == "dtd.txt"
    assert Path(group_file(known("FGVCAircraft"))).name == "fgvc_aircraft.txt"
    written_for_dassl = type("MyOwnImages", (), {})
    assert template_for(written_for_dassl, "ProGrad") == "a photo of a {}."
    assert Path(group_file(written_for_dassl)).name == "default.txt"
    own = type("Mine", (), {"template": "a scan of {}.", "group_file": "eurosat"})
    assert template_for(own) == template_for(own, "KgCoOp") == "a scan of {}." and group_file(own).name == "eurosat.txt"


@pytest.mark.parametrize(
    "attributes", [{"template": "a photo"}, {"template": 3}, {"templates": ["a {}."]}, {"template": "a {x}."}]
)
def test_what_a_dataset_class_must_not_say(attributes):
    with pytest.raises(UserError, match="dataset class Mine"):
        template_for(type("Mine", (), attributes))
