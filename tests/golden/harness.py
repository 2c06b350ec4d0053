"""Cases of golden numbers (README in tests/golden's own format): finding them, our configuration, our trainer, comparison."""

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml

import datasets  # noqa: F401  (registers)
import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from prompting import template_for
from tests.golden import tiny_clip

PROJECT = Path(__file__).resolve().parents[2]
# the released MoCoOp code's names for what ours calls otherwise; None: no number depends on it
OUR_KEY = {
    "ENABLE_CORRECTION": "CORRECTION", "FINETUNE_VIT_LN": "TUNE_LAYERNORM", "TEXT_LOSS_WEIGHT": "LAMBDA_TEXT",
    "GATE_LOSS_WEIGHT": "LAMBDA_ROUTER", "ENABLE": None, "N_CTX": None, "CTX_INIT": None, "ENABLE_IMPLICIT_OP": None,
    "PRETRAINED_PROMPTS_DIR": None, "TRAIN_W": None, "GROUPS": None, "PROMPTS": None, "LASP_PROMPTS": None,
}  # fmt: skip
OUR_CONFIG = {
    "run_utils": ("vit_b16", []),  # released file: ours, and what it says otherwise
    "vit_b16_c4_ep10_batch1_cls_t2t_5_wcl_25_g1_b": ("vit_b16_ep10_released", []),
    "vit_b16_c4_ep10_batch1_cls_t2t_5_wcl_25_g1_b_imagenet": ("vit_b16_ep10_released", []),
    "vit_b16_c4_ep25_batch32_cls_t2t_5_wcl_25_g1_b_lr32": ("vit_b16_ep50_released", ["OPTIM.MAX_EPOCH", 25]),
    "vit_b16_c4_ep50_batch32_cls_t2t_10_wcl_25_g1_b_lr32": ("vit_b16_ep50_released", []),
    "vit_b16_c4_ep300_batch32_cls_t2t_5_wcl_25_g1_b_lr32": ("vit_b16_ep50_released", ["OPTIM.MAX_EPOCH", 300]),
}
EUROSAT = [
    "Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road", "Industrial Buildings", "Pasture Land",
    "Permanent Crop Land", "Residential Buildings", "River", "Sea or Lake",
]  # fmt: skip


LEFT_OUT = ("published", "quirks")  # folders without cases to run: files of other kinds, cases that a method needn't follow
OWN_MODULE = {  # {lineage: module} of cases that another module than test_golden runs
    "2sfs": "test_two_stage_golden",
    "clap": "test_clap_golden",
    "cross_modal": "test_cross_modal_golden",
    "tip_adapter": "test_feature_golden",
    "lp++": "test_feature_golden",
}


def cases(folder, module="test_golden"):
    """Stems of the json files that describe a trainer's case, of those that a test module runs."""
    found = []
    for file in sorted(Path(folder).rglob("*.json")):
        content = json.loads(file.read_text()) if not set(file.relative_to(folder).parts) & set(LEFT_OUT) else None
        if isinstance(content, dict) and "trainer" in content and "lineage" in content:
            if OWN_MODULE.get(content["lineage"], "test_golden") == module:
                found.append(file.with_suffix(""))
    return found


def parametrise(metafunc, module):
    """One test for each case of a module, called after the case."""
    if "case" in metafunc.fixturenames:
        stems = cases(metafunc.config.getoption("--golden-dir"), module)
        metafunc.parametrize("case", stems, ids=[stem.name for stem in stems])


class Numbers:
    """A case's arrays. Large ones are stored as samples and a norm (KEY#sample, KEY#norm)."""

    def __init__(self, case, spec):
        self.spec, self.data = spec, np.load(case.with_suffix(".npz"))

    def __contains__(self, name):
        return name in self.data.files or f"{name}#sample" in self.data.files

    def names(self, prefix):
        """Names below ``prefix/``, without it."""
        keys = [key.removeprefix(f"{prefix}/") for key in self.data.files if key.startswith(f"{prefix}/")]
        return list(dict.fromkeys(key.partition("#")[0] for key in keys))

    def initial(self, name, shape):
        """Initial value of a learned tensor: stored, or drawn again as the case says."""
        if f"init/{name}" in self.data.files:
            return torch.from_numpy(self.data[f"init/{name}"])
        draws = self.spec["portable_init"]
        draw = draws[name] if name in draws else draws[name.partition(".")[2]]  # some cases leave out the model's name
        values = tiny_clip.standard_normal(draw.get("seed_text") or draw["seed"], tuple(shape))
        return torch.from_numpy((draw.get("offset", 0) + draw["scale"] * values).astype(np.float32))

    def compare(self, ours, name, relative=None, absolute=None, what=""):
        """Ours against the array ``name``, or against its sample and norm."""
        what = what or name
        if name in self.data.files:
            return close(ours, self.data[name], relative, absolute, what)
        flat = torch.as_tensor(ours).detach().flatten()
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"sample:{name}".encode())))
        sample = flat[torch.from_numpy(rng.integers(0, flat.numel(), 2048))]
        close(sample, self.data[f"{name}#sample"], relative, absolute, f"sample of {what}")
        if relative:
            close(flat.double().norm()[None], self.data[f"{name}#norm"].reshape(1), relative, absolute, f"norm of {what}")


def weight_file(backbone, golden_dir, folder):
    """File of a tiny CLIP's generated weights; its manifest lies in the golden folder or in the project's."""
    file = Path(folder) / f"{backbone}.pt"
    if not file.is_file():
        name = f"{backbone}.manifest.json"
        manifest = next(found for place in (Path(golden_dir), Path(__file__).parent) for found in sorted(place.rglob(name)))
        torch.save(tiny_clip.state_dict(manifest), file)
    return str(file)


def config(spec, weights, folder):
    """The configuration of a case: our YAML file of the same name, then the case's own options."""
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    stem = Path(spec["upstream_config"]).stem
    file, changes = OUR_CONFIG.get(stem, (stem, []))
    cfg.merge_from_file(str(yaml_file(spec["trainer"], file)))
    cfg.merge_from_list(changes)
    cfg.merge_from_list(lora_options(spec) if spec["trainer"] == "CLIPLoRA" else our_options(spec["opts"]))
    if "adam_eps" in spec.get("extra", {}):
        cfg.merge_from_list(["OPTIM.ADAM_EPS", spec["extra"]["adam_eps"]])
    if spec["trainer"] == "MoCoOp":
        cfg.merge_from_list(["TRAINER.MOCOOP.TEMPLATES", str(group_file(spec, folder))])
    cfg.merge_from_list([
        "TRAINER.NAME", spec["trainer"], "DATASET.NAME", dataset(spec), "MODEL.BACKBONE.PATH", weights, "USE_CUDA", False,
        "OUTPUT_DIR", str(folder), "SEED", spec["seed"],
    ])  # fmt: skip
    cfg.freeze()
    return cfg


def base_config(trainer, stem, weights, folder, pairs):
    """The configuration of our YAML file for 32 pixels on the CPU, with {key: value} pairs."""
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    cfg.merge_from_file(str(yaml_file(trainer, stem)))
    usual = {"TRAINER.NAME": trainer, "DATASET.NAME": "EuroSAT", "INPUT.SIZE": (32, 32), "MODEL.BACKBONE.PATH": weights,
             "USE_CUDA": False, "OUTPUT_DIR": str(folder), "SEED": 1}  # fmt: skip
    for key, value in {**usual, **pairs}.items():
        cfg.merge_from_list([key, value])
    cfg.freeze()
    return cfg


def lora_options(spec):
    """Our options for a command line of CLIP-LoRA's."""
    args = spec["args"]
    masks = "masks" in spec["dropout"]
    pairs = {
        "INPUT.SIZE": (32, 32), "DATASET.NUM_SHOTS": args["shots"], "OPTIM.LR": args["lr"], "TRAINER.CLIPLORA.PREC": "fp32",
        "TRAINER.CLIPLORA.ENCODER": args["encoder"], "TRAINER.CLIPLORA.PARAMS": args["params"],
        "TRAINER.CLIPLORA.POSITION": args["position"], "TRAINER.CLIPLORA.R": args["r"], "TRAINER.CLIPLORA.ALPHA": args["alpha"],
        "TRAINER.CLIPLORA.DROPOUT": args["dropout_rate"] if masks else 0.0, "TRAINER.CLIPLORA.ITERS_PER_SHOT": args["n_iters"],
    }  # fmt: skip
    return [word for pair in pairs.items() for word in pair]


def our_options(opts):
    """A case's options under our names; those on which no number of ours depends, or that a case gives beside them, left out."""
    kept = []
    for key, value in zip(opts[::2], opts[1::2]):
        section, _, name = key.rpartition(".")
        if section == "TRAINER.MoCoOp":
            if name == "TRAIN_W" and value in (False, "False"):
                kept += ["TRAINER.MOCOOP.CORRECTION", False]  # a correction that stays zero
            name = OUR_KEY.get(name, name)
            key = name and f"TRAINER.MOCOOP.{name}"
        if key and (key, str(value)) != ("DATASET.INCLUDE_ALL_CLASSES", "False"):
            kept += [key, value]
    return kept


def dataset(spec):
    """Registry name of the case's dataset: said by the case, or the one whose template the case names, or EuroSAT."""
    opts = dict(zip(spec["opts"][::2], spec["opts"][1::2]))
    name = spec.get("dataset") or spec.get("dataset_name") or opts.get("DATASET.NAME")
    template = spec.get("template") or spec.get("custom_template")
    known = {stem.lower().replace("_", ""): registered for stem, registered in registered_names().items()}
    if name:
        return known.get(name.lower().replace("_", ""), name)
    has = {d: template_for(DATASET_REGISTRY.get(d), spec["trainer"]) for d in ("EuroSAT", *known.values())}
    return next((d for d in has if has[d] == template), "EuroSAT")


def registered_names():
    """{stem of the dataset's YAML file, or its registry name: registry name}"""
    names = {}
    for file in (PROJECT / "configs" / "datasets").glob("*.yaml"):
        registered = yaml.safe_load(file.read_text())["DATASET"]["NAME"]
        names.update({file.stem: registered, registered: registered})
    return names


def yaml_file(trainer, stem):
    """Our file; the repositories also use CoOp's files for methods that have none of that name."""
    for method in (trainer, "CoOp"):
        for name in (stem, stem.removeprefix(f"{method}_")):
            file = PROJECT / "configs" / "trainers" / method / f"{name}.yaml"
            if file.is_file():
                return file
    raise AssertionError(f"no configs/trainers/{trainer}/{stem}.yaml")


def group_file(spec, folder):
    """The case's template groups as a group file."""
    rest = iter(spec["prompts"])
    groups = ["\n".join(next(rest) for _ in range(n)) for n in spec["groups"]]
    file = folder / "groups.txt"
    file.write_text("\n\n".join(groups) + "\n")
    return file


def build(spec, cfg, monkeypatch):
    """The case's trainer with class names but no images."""
    cls = TRAINER_REGISTRY.get(spec["trainer"])
    names = spec["classnames"]

    def build_data_loader(self):
        every = spec.get("all_classnames") or (EUROSAT if names == EUROSAT[:5] else names)
        images = [None] * 5 * spec.get("batch_size", 0)
        self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=names, all_classnames=every, train_x=images))
        self.num_classes, self.num_source_domains, self.lab2cname = len(names), 0, dict(enumerate(names))
        self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None

    monkeypatch.setattr(cls, "build_data_loader", build_data_loader)
    trainer = cls(cfg)
    trainer.batch_idx, trainer.num_batches = 0, 10**9  # no epoch ends within a case: the learning rate stays
    return trainer


# After a step, rounding differences of the two programs have been amplified by training: the released MoCoOp recipe (learning
# rate 0.032, losses near 20) run in fp64 differs from the published fp32 numbers by 2.5e-4 (1.1e-5 of the loss). What comes
# after a step may therefore differ by this share of its size where that is more than 1e-4.
DRIFT = 5e-5


def close(ours, theirs, relative=None, absolute=None, what=""):
    ours, theirs = torch.as_tensor(ours).detach().double(), torch.as_tensor(theirs).double()
    assert ours.shape == theirs.shape, what
    error = (ours - theirs).norm() if relative else (ours - theirs).abs().max() if ours.numel() else torch.tensor(0.0)
    bound = relative * theirs.norm().clamp_min(1e-12) if relative else absolute
    assert error <= bound, f"{what}: off by {error:.3g}, allowed {bound:.3g}"
