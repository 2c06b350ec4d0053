"""ATPrompt: which attributes, their places in the prompt, other data sets, settings that don't fit."""

import pytest
import torch

from dassl.utils import UserError
from prompting import attribute_programs, encode, learned

OWN = ("TRAINER.ATPROMPT.ATT_NUM", 2, "TRAINER.ATPROMPT.ATT1_TEXT", "shape", "TRAINER.ATPROMPT.ATT2_TEXT", "size")


def test_places_of_vectors_and_words():
    (program,) = attribute_programs(["ice_cream"], ["color", "shape"], [2, 1, 4], 2)
    color, shape, name = encode("color"), encode("shape"), encode("ice cream.")
    assert program[1:-1] == [learned(0), learned(1), *color, learned(2), *shape, learned(3), learned(4), *name]


def test_of_a_word_of_two_tokens_the_first_stays():
    """As published: what follows is taken for one token, so a placeholder is left before the class name."""
    (program,) = attribute_programs(["dog"], ["playfulness"], [2], 2)
    first, second = encode("playfulness")
    (placeholder,) = encode("X")
    assert program[1:-1] == [learned(0), learned(1), first, learned(2), learned(3), placeholder, *encode("dog.")]
    assert second not in program


def test_attributes_are_the_settings_or_the_data_sets(make_trainer, capsys):
    trainer = make_trainer("CoOp_ATP", "vit_b16", *OWN)
    assert trainer.attributes == ["shape", "size"]
    with pytest.raises(UserError, match="no attributes were published for ImageFolder"):
        make_trainer("CoOp_ATP", "vit_b16", "TRAINER.ATPROMPT.ATT_NUM", 0)
    with pytest.raises(UserError, match="ATT2_TEXT is 'none'"):
        make_trainer("CoOp_ATP", "vit_b16", *OWN[:4])
    make_trainer("CoOp_ATP", "vit_b16", *OWN[:2], "TRAINER.ATPROMPT.ATT1_TEXT", "playfulness", *OWN[4:])
    assert 'Note: "playfulness" has 2 tokens' in capsys.readouterr().out


def test_another_data_sets_attributes_are_said(make_trainer, tmp_path, capsys):
    make_trainer("CoOp_ATP", "vit_b16").train()
    other = make_trainer("CoOp_ATP", "vit_b16", *OWN, out="other")
    capsys.readouterr()
    other.load_model(str(tmp_path / "run"), epoch=2)
    assert "Trained with the attributes shape; evaluated with shape, size, and the vectors before size" in capsys.readouterr().out
    other.test()


def test_published_checkpoints(make_trainer, tmp_path):
    trainer = make_trainer("CoOp_ATP", "vit_b16")
    state = {name: torch.randn_like(value) for name, value in trainer.learner.state_dict().items()}
    frozen = {name: torch.zeros(5, 1, 64) for name in ("token_prefix", "token_suffix", "token_middle1")}
    (tmp_path / "published" / "prompt_learner").mkdir(parents=True)
    torch.save({"state_dict": {**state, **frozen}, "epoch": 100}, tmp_path / "published" / "prompt_learner" / "model.pth.tar-100")
    trainer.load_model(str(tmp_path / "published"), epoch=100)
    assert set(state) == {"ctx", "ctx_att1", "ctx_att2", "ctx_att3"}
    assert all(torch.equal(value, state[name]) for name, value in trainer.learner.state_dict().items())


def test_without_attributes_it_is_coop(make_trainer):
    trainer = make_trainer("CoOp_ATP", "vit_b16", "TRAINER.ATPROMPT.USE_ATPROMPT", False)
    coop = make_trainer("CoOp", "vit_b16", "TRAINER.COOP.N_CTX", 4, out="coop")
    assert torch.equal(trainer.text_features(), coop.text_features())


@pytest.mark.parametrize("pair", [("CSC", True), ("CTX_INIT", "a photo of a"), ("CLASS_TOKEN_POSITION", "front")])
def test_settings_that_it_does_not_have_are_refused(pair, make_trainer):
    with pytest.raises(UserError, match="CoOp_ATP has one context for all classes"):
        make_trainer("CoOp_ATP", "vit_b16", f"TRAINER.COOP.{pair[0]}", pair[1])
