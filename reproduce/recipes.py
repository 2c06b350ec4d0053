"""Which configuration file each method uses in each setting, and what it sets beside it."""

from basics import UserError
from reproduce.facts import PROJECT, choices, is_builtin, is_imagenet

ZEROSHOT_TRAINERS = ("ZeroshotCLIP", "ZeroshotCLIP2")

# Beside each row: where the published recipe is written.
VIT_B16 = {  # base-to-new and cross-dataset
    "ZeroshotCLIP": "vit_b16",  # repository CoOp, scripts/coop/zeroshot.sh
    "ZeroshotCLIP2": "vit_b16",  # the same
    "LinearProbe": "vit_b16",  # ours: CoOp's lpclip/ is for few-shot RN50
    "CoOp": "vit_b16_ctxv1",  # repository CoOp, scripts/cocoop/base2new_train.sh: 200 epochs
    "CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1",  # repository CoOp, scripts/cocoop/base2new_train.sh and xd_train.sh
    "KgCoOp": "vit_b16_ep100_ctxv1",  # repository KgCoOp, scripts/base2new_train.sh and xd_train.sh: ImageNet too
    "ProGrad": "vit_b16_ep100",  # repository Prompt-align, scripts/base2new_train_prograd.sh, RN50 and 4 shots there
    "MoCoOp": "vit_b16",  # the paper, section 4: as CoOp
}
VIT_B16_IMAGENET = {  # 50 epochs
    "CoOp": "vit_b16_ep50_ctxv1",  # repository CoOp, scripts/cocoop/base2new_train.sh and xd_train.sh
    "ProGrad": "vit_b16_ep50",  # repository Prompt-align, README: "rn50_ep50" in place of "rn50_ep100"
    "MoCoOp": "vit_b16_ep50",  # as CoOp
}
RN50 = {  # few-shot, where the length of training doesn't depend on the shots; CoOp, ProGrad, MoCoOp: see FEWSHOT_EPOCHS
    "ZeroshotCLIP": "rn50",  # repository CoOp, scripts/coop/zeroshot.sh
    "ZeroshotCLIP2": "rn50",  # the same
    "LinearProbe": "rn50",  # repository CoOp, lpclip/
    "KgCoOp": "rn50_ep100",  # the repository KgCoOp has this file only, and no few-shot script for RN50
}
# CoOp: repository CoOp, COOP.md (ImageNet: 50 epochs at any number of shots). ProGrad: repository Prompt-align, README.
# MoCoOp: as CoOp.
FEWSHOT_EPOCHS = {1: "rn50_ep50", 2: "rn50_ep100", 4: "rn50_ep100", 8: "rn50", 16: "rn50"}  # rn50: 200 epochs


def default_cfg(trainer, dataset, setting, shots):
    """Stem of the method's YAML file in the published recipe.

    setting: base2new, fewshot, zeroshot or crossdataset. Few-shot prompts train 50 epochs at 1 shot and on
    ImageNet, 100 at 2 and 4, 200 at others (nobody published those between).
    """
    if is_builtin(dataset):
        return "builtin"
    if setting == "fewshot":
        if trainer in RN50:
            return RN50[trainer]
        return "rn50_ep50" if is_imagenet(dataset) else FEWSHOT_EPOCHS.get(shots, "rn50")
    if is_imagenet(dataset) and trainer in VIT_B16_IMAGENET:
        return VIT_B16_IMAGENET[trainer]
    return VIT_B16.get(trainer, "vit_b16")


def recipe_cfg(recipe, trainer, dataset, setting, shots):
    """`default_cfg` of the paper's recipe; MoCoOp's file that follows the released code for the recipe `released`."""
    cfg = default_cfg(trainer, dataset, setting, shots)
    if recipe == "paper" or trainer != "MoCoOp":
        return cfg
    if cfg == "builtin":
        return "builtin_released"
    if is_imagenet(dataset) and setting != "fewshot":
        return "vit_b16_ep10_released"  # the released code's file for ImageNet
    return cfg.split("_ep")[0] + "_ep50_released"


def recipe_opts(trainer, dataset, setting, shots):
    """KEY VALUE pairs that the published recipe sets beside its file; the user's own come after and win.

    ProGrad: repository Prompt-align, README, "Few-shot setting".
    """
    if trainer == "ProGrad" and setting == "fewshot" and shots >= 8 and dataset in ("oxford_flowers", "dtd", "eurosat"):
        return ("LOSS.LAMBDA", "0.8")
    return ()


def method_names():
    """Names of all methods that have YAML files."""
    return sorted(p.name for p in (PROJECT / "configs" / "trainers").iterdir() if p.is_dir())


def method_folder(trainer):
    """Folder of the method's YAML files; UserError naming the nearest method if there is none."""
    methods = method_names()
    if trainer not in methods:
        raise UserError(f"TRAINER={trainer}: no such method{choices(trainer, methods)}")
    return PROJECT / "configs" / "trainers" / trainer


def trainer_file(trainer, cfg):
    """Path of the method's YAML file; UserError naming the nearest one if there is none."""
    path = method_folder(trainer) / f"{cfg}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise UserError(f"CFG={cfg}: no file {path}{choices(cfg, names)}")
    return path
