"""CLIP-LoRA's own: where masks are shared, its steps, and files of the published code."""

import math

import pytest
import torch

from basics.hashes import file_hash
from dassl.utils import UserError
from learning.iterations import cosine
from learning.low_rank import layers_at
from tests.trainers.conftest import CLASSES


def test_positions_of_a_tower_of_twelve_layers():
    published = {"bottom": range(4), "mid": range(4, 8), "up": range(8, 12), "half-up": range(6, 12), "half-bottom": range(6),
                 "top3": range(9, 12), "all": range(12)}  # fmt: skip
    assert {name: layers_at(name, 12) for name in published} == published
    assert layers_at("half-up", 24) == range(12, 24)


def test_masks_are_a_class_s_own_unless_they_are_shared(make_trainer):
    """The start token sees itself alone: its feature depends on the masks only."""
    starts = {}
    for share in (False, True):
        trainer = make_trainer("CLIPLoRA", "vit_b16", "TRAINER.CLIPLORA.SHARE_MASKS", share, "TRAINER.CLIPLORA.DROPOUT", 0.9)
        with torch.no_grad():
            for parameter in trainer.learner.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        trainer.set_model_mode("train")
        seen, block = [], trainer.clip.text.blocks[1]
        hook = block.ln_1.register_forward_hook(lambda module, args, out, seen=seen: seen.append(args[0]))
        trainer.text_features()
        hook.remove()
        starts[share] = seen[0]
    assert starts[False].dim() == 3  # every class by itself: [C, L, D]
    assert len(starts[False][:, 0].unique(dim=0)) == len(CLASSES)
    assert starts[True].dim() == 2  # packed: the start token stands there once


def test_masks_of_images_are_drawn_for_all_tokens(make_trainer):
    """As in the published code, so that the numbers drawn after them are the same; without dropout the class token is enough."""
    rows = []
    for rate, mode in ((0.25, "train"), (0.25, "eval"), (0.0, "train")):
        trainer = make_trainer("CLIPLoRA", "vit_b16", "TRAINER.CLIPLORA.DROPOUT", rate)
        trainer.set_model_mode(mode)
        last = list(trainer.learner.image.values())[-1]["q"]
        hook = last.register_forward_hook(lambda module, args, out: rows.append(args[0].shape[1]))
        size = trainer.clip.image_size
        trainer.encode_image(torch.zeros(2, 3, size, size))
        hook.remove()
    assert rows[0] > 1 and rows[1:] == [1, 1]


def test_steps_are_counted_and_the_training_ends_at_the_last(make_trainer):
    trainer = make_trainer("CLIPLoRA", "vit_b16", "TRAINER.CLIPLORA.ITERS_PER_SHOT", 3, "DATASET.NUM_SHOTS", 3)
    batches = len(trainer.train_loader_x)
    assert trainer.total_steps == 9 and trainer.max_epoch == math.ceil(9 / batches)
    rates = []
    step = trainer.step
    trainer.step = lambda: (rates.append(trainer.optim.param_groups[0]["lr"]), step())
    trainer.train()
    assert rates == pytest.approx([cosine(2e-4, k, 9) for k in range(9)])


@pytest.mark.parametrize("position", ["all", "half-up"])
def test_a_file_of_the_published_code_is_loaded(position, make_trainer, tmp_path):
    source, target = (make_trainer("CLIPLoRA", "vit_b16", "TRAINER.CLIPLORA.POSITION", position, out=out) for out in "ab")
    with torch.no_grad():
        for parameter in source.learner.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    weights = {}
    for number, modules in enumerate([*source.learner.text.values(), *source.learner.image.values()]):
        weights[f"layer_{number}"] = {
            f"{name}_proj": {"w_lora_A": m.w_lora_A.data, "w_lora_B": m.w_lora_B.data} for name, m in modules.items()
        }
    metadata = {"r": 2, "alpha": 1, "encoder": "both", "params": ["q", "k", "v"], "position": position}
    file = tmp_path / "lora_weights.pt"
    torch.save({"weights": weights, "metadata": metadata}, file)
    target.load_model(str(file))
    assert target._loaded["sha256"] == {"lora": file_hash(str(file))}  # results.json tells which file it was
    assert all(torch.equal(a, b) for a, b in zip(source.learner.parameters(), target.learner.parameters(), strict=True))
    torch.save({"weights": weights, "metadata": {**metadata, "r": 4}}, file)
    with pytest.raises(UserError, match=r"other settings: r 4 \(here 2\)"):
        target.load_model(str(file))
    torch.save({"weights": {"layer_9": {}}, "metadata": metadata}, file)
    with pytest.raises(UserError, match="have a layer_9, but"):
        target.load_model(str(file))
    torch.save({"weights": [1], "metadata": 7}, file)
    with pytest.raises(UserError, match="can't take up its contents"):
        target.load_model(str(file))


def test_layers_that_a_tower_lacks_leave_nothing_to_learn(make_trainer):
    """A third of two layers is none."""
    with pytest.raises(UserError, match="CLIPLORA leave nothing to learn"):
        make_trainer("CLIPLoRA", "vit_b16", "TRAINER.CLIPLORA.POSITION", "bottom")
