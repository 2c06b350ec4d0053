"""MoCoOp's text loss on some experts in turn: over a whole turn its gradient is the full one's; resuming; refusals."""

import pytest
import torch

from basics import UserError
from tests.trainers.test_trainers import interrupted, learned

O = "TRAINER.MOCOOP."  # noqa: E741
BASE = (O + "TEMPLATES", "templates/eurosat.txt", "DATASET.SUBSAMPLE_CLASSES", "base", O + "ROUTER_LOSS", "none")


def gradient(trainer, step):
    """Gradient of the contexts by the losses of a fixed batch in a step of the run, and the text loss; parameters stay."""
    torch.manual_seed(3)
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 2, 1, 0])
    trainer.epoch, (trainer.num_batches, trainer.batch_idx) = step // 3, (3, step % 3)
    trainer.learner.zero_grad()
    loss, logits, terms = trainer.loss(trainer.batch_features(images), labels)
    loss.backward()
    return trainer.learner.ctx.grad.clone(), terms["loss_text"].item(), logits


@pytest.mark.parametrize("text_loss", ["templates", "prototype"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_over_a_turn_it_is_the_full_gradient(count, text_loss, make_trainer):
    full = make_trainer("MoCoOp", "vit_b16", *BASE, O + "TEXT_LOSS", text_loss)
    some = make_trainer("MoCoOp", "vit_b16", *BASE, O + "TEXT_LOSS", text_loss, O + "TEXT_EXPERTS", count, out="some")
    total = len(full.groups)
    assert total == 6
    expected, loss, logits = gradient(full, 0)
    steps = [gradient(some, step) for step in range(total // count)]
    assert torch.allclose(sum(g for g, _, _ in steps) / len(steps), expected, atol=1e-5)
    assert sum(value for _, value, _ in steps) / len(steps) == pytest.approx(loss, rel=1e-5)
    assert all(torch.allclose(own, logits, atol=1e-4) for _, _, own in steps)  # classification isn't approximated
    assert not torch.allclose(steps[0][0], expected, atol=1e-4)
    turns = []
    for step in range(total // count):
        some.epoch, some.num_batches, some.batch_idx = 0, total, step
        turns.append(some.experts_in_turn())
    assert sorted(g for turn in turns for g in turn) == list(range(total))


def test_all_experts_are_the_full_loss(make_trainer):
    full, same = (make_trainer("MoCoOp", "vit_b16", *BASE, O + "TEXT_EXPERTS", n, out=str(n)) for n in (0, 6))
    assert torch.equal(gradient(full, 1)[0], gradient(same, 1)[0])


def test_the_order_depends_on_the_seed(make_trainer):
    orders = []
    for seed in (1, 2, 1):
        trainer = make_trainer("MoCoOp", "vit_b16", *BASE, O + "TEXT_EXPERTS", 1, "SEED", seed, out=f"o{len(orders)}")
        trainer.epoch, trainer.num_batches, turns = 0, 6, []
        for trainer.batch_idx in range(6):
            turns += trainer.experts_in_turn()
        orders.append(turns)
    assert orders[0] == orders[2] != orders[1]


def test_an_interrupted_run_keeps_its_turns(make_trainer):
    options = (*BASE, O + "TEXT_EXPERTS", 2, "OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1)
    whole, half = (make_trainer("MoCoOp", "vit_b16", *options, out=out) for out in ("whole", "half"))
    whole.train()
    interrupted(half, 1)
    again = make_trainer("MoCoOp", "vit_b16", *options, out="half")
    again.train()
    straight, resumed = learned(whole), learned(again)
    assert again.start_epoch == 1 and all(torch.equal(straight[name], resumed[name]) for name in straight)


@pytest.mark.parametrize("pairs, named", [
    ((O + "TEXT_EXPERTS", 7), "more than the 6 experts"),
    ((O + "TEXT_EXPERTS", 2, O + "TEXT_LOSS", "none"), "no effect with .*TEXT_LOSS none"),
    ((O + "TEXT_EXPERTS", 2, O + "CHOSEN_BELOW", 9), "no effect with .*CHOSEN_BELOW 9"),
])  # fmt: skip
def test_refusals(pairs, named, make_trainer):
    with pytest.raises(UserError, match=named):
        make_trainer("MoCoOp", "vit_b16", *BASE, *pairs)
