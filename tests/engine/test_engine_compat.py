"""What trainer files of other repositories rely on, beyond what this repository's own methods use."""

import importlib
import json
import pathlib

import pytest
import torch
from tiny_method import TinyCoOp
from torch import nn

from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY, TrainerBase
from dassl.evaluation import EVALUATOR_REGISTRY, EvaluatorBase
from dassl.optim import build_lr_scheduler
from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler
from dassl.utils import load_checkpoint, save_checkpoint

# what public repositories import from Dassl, by module
IMPORTED = {
    "config": "get_cfg_default",
    "data": "DataManager DatasetWrapper",
    "data.data_manager": "DataManager DatasetWrapper build_data_loader build_transform",
    "data.datasets": "DATASET_REGISTRY Datum DatasetBase build_dataset",
    "data.datasets.base_dataset": "Datum DatasetBase",
    "data.datasets.build": "DATASET_REGISTRY build_dataset",
    "data.samplers": "build_sampler",
    "data.transforms": "INTERPOLATION_MODES build_transform",
    "data.transforms.transforms": "build_transform",
    "engine": "TRAINER_REGISTRY TrainerBase SimpleTrainer TrainerX TrainerXU SimpleNet build_trainer",
    "engine.trainer": "SimpleNet SimpleTrainer TrainerBase TrainerX TrainerXU",
    "evaluation": "EVALUATOR_REGISTRY EvaluatorBase Classification build_evaluator",
    "evaluation.evaluator": "EvaluatorBase Classification",
    "metrics": "compute_accuracy compute_distance_matrix",
    "modeling": "BACKBONE_REGISTRY build_backbone build_head",
    "modeling.backbone": "BACKBONE_REGISTRY Backbone",
    "modeling.ops.utils": "sharpen_prob create_onehot linear_rampup sigmoid_rampup ema_model_update",
    "optim": "build_optimizer build_lr_scheduler",
    "optim.lr_scheduler": "ConstantWarmupScheduler LinearWarmupScheduler build_lr_scheduler",
    "optim.optimizer": "build_optimizer",
    "utils": "MetricMeter AverageMeter Registry check_availability check_isfile collect_env_info count_num_param "
    "init_network_weights listdir_nohidden load_checkpoint load_pretrained_weights mkdir_if_missing read_image "
    "read_json resume_from_checkpoint save_checkpoint set_random_seed setup_logger tolist_if_not write_json",
    "utils.meters": "AverageMeter MetricMeter",
    "utils.tools": "mkdir_if_missing read_image set_random_seed",
    "utils.torchtools": "count_num_param load_pretrained_weights resume_from_checkpoint save_checkpoint",
}


@pytest.mark.parametrize("module", IMPORTED)
def test_imported_names(module):
    found = importlib.import_module(f"dassl.{module}")
    assert [name for name in IMPORTED[module].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("guide, expected", [((-1.0, 0.0), (0.0, 2.0)), ((1.0, 0.0), (3.0, 2.0))])
def test_prograd_update(guide, expected):
    trainer, model = TrainerBase(), nn.Linear(2, 1, bias=False)
    model.weight.data.zero_()
    trainer.register_model("model", model, torch.optim.SGD(model.parameters(), lr=1.0))
    own, guide = model(torch.tensor([3.0, 2.0])).sum(), model(torch.tensor(guide)).sum()
    trainer.prograd_backward_and_update(own, guide)
    assert (-model.weight.data[0]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind, WarmUp, start", [("constant", ConstantWarmupScheduler, 1e-5),
                                                 ("linear", LinearWarmupScheduler, 1e-5)])  # fmt: skip
def test_warmup_with_successor(tmp_path, kind, WarmUp, start):
    cfg = get_cfg_default().OPTIM
    cfg.LR_SCHEDULER, cfg.WARMUP_EPOCH, cfg.WARMUP_TYPE = "cosine", 3, kind

    def make(built):
        optim = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.002)
        if built:
            return optim, build_lr_scheduler(optim, cfg)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optim, cfg.MAX_EPOCH)
        return optim, WarmUp(optim, cosine, 3, start)

    def rates(optim, sched, epochs):
        out = []
        for _ in range(epochs):
            out.append(optim.param_groups[0]["lr"])
            optim.step()
            sched.step()
        return out

    expected = rates(*make(True), 9)
    optim, sched = make(False)
    assert rates(optim, sched, 5) == pytest.approx(expected[:5])
    # its state is plain data, and it goes on from there
    save_checkpoint(
        {"state_dict": {}, "epoch": 5, "optimizer": optim.state_dict(), "scheduler": sched.state_dict()}, str(tmp_path)
    )
    saved = load_checkpoint(str(tmp_path / "model.pth.tar-5"))
    other, resumed = make(False)
    other.load_state_dict(saved["optimizer"])
    resumed.load_state_dict(saved["scheduler"])
    assert rates(other, resumed, 4) == pytest.approx(expected[5:])


@TRAINER_REGISTRY.register(force=True)
class Averaged(TinyCoOp):
    """Ends with weights that were averaged over the epochs, frozen ones among them, as PromptSRC does."""

    def after_epoch(self):
        if self.epoch + 1 == self.max_epoch:
            self.model.load_state_dict({k: v * 0.999 for k, v in self.model.state_dict().items()})
        super().after_epoch()


def test_frozen_parameters_that_a_method_changes_are_saved(make_trainer, tmp_path):
    path = tmp_path / "run" / "prompt_learner" / "model.pth.tar-1"
    plain = make_trainer("OPTIM.MAX_EPOCH", 1)
    plain.train()
    assert "frozen" not in load_checkpoint(str(path))["state_dict"]
    trainer = make_trainer("TRAINER.NAME", "Averaged", "OPTIM.MAX_EPOCH", 1, "OUTPUT_DIR", str(tmp_path / "averaged"))
    trainer.train()
    path = tmp_path / "averaged" / "prompt_learner" / "model.pth.tar-1"
    assert load_checkpoint(str(path))["state_dict"]["frozen"].item() == pytest.approx(3 * 0.999)
    again = make_trainer("TRAINER.NAME", "Averaged")
    again.load_model(str(tmp_path / "averaged"), epoch=1)
    assert torch.equal(again.model.frozen, trainer.model.frozen)


@EVALUATOR_REGISTRY.register(force=True)
class Foreign(EvaluatorBase):
    """Keeps no results beside those that it returns."""

    def __init__(self, cfg, lab2cname=None):
        super().__init__(cfg)

    def reset(self):
        self.seen = 0

    def process(self, mo, gt):
        self.seen += len(gt)

    def evaluate(self):
        return {"seen": self.seen}


def test_evaluator_written_for_dassl(make_trainer, tmp_path):
    make_trainer("TEST.EVALUATOR", "Foreign", "OPTIM.MAX_EPOCH", 1).train()
    results = json.loads(pathlib.Path(tmp_path / "run" / "results.json").read_text())
    assert results["metrics"] == {"seen": 15.0}
