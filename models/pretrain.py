"""Contrastive pre-training of the built-in CLIP on the captioned world of `datasets/builtin`.

    python -m models.pretrain models/builtin
    python -m models.pretrain models/builtin_vit --kind vit --teacher models/builtin

Training is driven by steps and seeds, writes a checkpoint every few hundred steps and goes on from it after an
interruption, with the same result. The product is a folder in open_clip's local format. `models/builtin/README.md`
records the committed run.

The loss is CLIP's (Radford et al. 2021), plus four linear heads on the image feature that name the thing, its
texture, its style and its colour; their weight fades to nothing at 75 % of training and they are not kept. Without
them so small a model hardly starts to learn.

With a teacher the text encoder is the teacher's and stays as it is (as the image encoder does in LiT, Zhai et al. 2022), and the
image features are also drawn to the teacher's.
"""

import json
import math
import sys
import time
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

from basics import atomic_write, program
from basics.hashes import file_hash
from basics.program import Parser
from basics.safe_pickle import safe_torch_load
from datasets.builtin import captions as world

SIZE, VOCABULARY = 64, 49408  # sides of an image, tokens of CLIP
TEXT = {"context_length": 77, "vocab_size": VOCABULARY, "width": 128, "heads": 2}
MODELS = {
    "resnet": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": {**TEXT, "layers": 2},
    },
    "vit": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": SIZE, "layers": 3, "width": 128, "patch_size": 8, "head_width": 64},
        "text_cfg": {**TEXT, "layers": 2},
    },
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PREPROCESS = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}

HELD_OUT = 999  # seed of the images that progress is measured on
AUXILIARY = {"name": 1.0, "pattern": 0.5, "style": 0.3, "colour": 0.3}  # weights of the heads
AUXILIARY_END = 0.75  # share of training at which they have faded
EASY_SHARE = 0.25  # share of training with mostly photos, before all styles come in full
WARM_UP = 100  # steps
DISTIL = 5.0  # weight of 1 - cosine to the teacher's image feature


def tokenize(texts):
    """CLIP's tokens [n, length of the longest text]. Behind the end token nothing matters: the mask is causal."""
    tokens = open_clip.tokenize(texts)
    return tokens[:, : int(tokens.argmax(-1).max()) + 1]


def preprocess(images):
    """uint8 [n, 48, 48, 3] -> uint8 [n, 3, 64, 64], as PIL's bicubic filter does it."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return F.interpolate(x, size=(SIZE, SIZE), mode="bicubic", antialias=True)


def normalise(images):
    """uint8 [n, 3, 64, 64] -> float32, with CLIP's mean and deviation."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


class World(Dataset):
    """Batch by batch the images, tokens and labels of a run: item i is a function of (seed, i)."""

    def __init__(self, seed, steps, size, first=0):
        self.seed, self.steps, self.size, self.first = seed, steps, size, first

    def __len__(self):
        return self.steps - self.first

    def __getitem__(self, i):
        step = self.first + i
        photo_share = 0.8 if step < EASY_SHARE * self.steps else 0.45
        images, captions, labels = world.batch(self.seed, step, self.size, photo_share)
        return preprocess(images), tokenize(captions), {k: torch.from_numpy(v) for k, v in labels.items()}


class Vocabulary:
    """The few hundred tokens that occur, numbered from 0: the full table of 49,408 would be trained for nothing."""

    def __init__(self):
        self.ids = tokenize(world.words()).unique()
        self.row = torch.full((VOCABULARY,), -1)
        self.row[self.ids] = torch.arange(len(self.ids))

    def __len__(self):
        return len(self.ids)


def build(kind, seed, vocabulary):
    """CLIP of a kind with a compact token table, and the auxiliary heads."""
    torch.manual_seed(seed)
    settings = MODELS[kind]
    model = open_clip.CLIP(**settings)
    width = settings["text_cfg"]["width"]
    model.visual = model.visual.to(memory_format=torch.channels_last)  # a third faster on a CPU
    model.token_embedding = nn.Embedding(len(vocabulary), width)
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    sizes = {
        "name": len(world.NAMES),
        "pattern": len(world.PATTERN_NAMES),
        "style": len(world.STYLES),
        "colour": len(world.COLOURS),
    }
    heads = nn.ModuleDict({k: nn.Linear(settings["embed_dim"], n) for k, n in sizes.items()})
    return model, heads


def encode_text(model, vocabulary, tokens):
    """Text features [n, 128] of tokens [n, length <= 77]."""
    n, length = tokens.shape
    x = model.token_embedding(vocabulary.row[tokens]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(n), tokens.argmax(-1)] @ model.text_projection


class Teacher:
    """A trained model of this folder: its text encoder goes into ``model`` and stays, its image features are aims."""

    def __init__(self, folder, model, vocabulary):
        trained = open_clip.create_model(f"local-dir:{folder}").eval()
        state = {k: v for k, v in trained.state_dict().items() if not k.startswith("visual.")}
        state["token_embedding.weight"] = state["token_embedding.weight"][vocabulary.ids]
        model.load_state_dict(state, strict=False)
        for name, p in model.named_parameters():
            p.requires_grad_(name.startswith("visual.") or name == "logit_scale")
        self.visual = trained.visual
        self.met = state["token_embedding.weight"].abs().sum(1) > 0

    @torch.no_grad()
    def aims(self, images):
        """Unit features [B, 128] of normalised images."""
        return F.normalize(self.visual(images), dim=-1)


def build_optimizer(model, heads, lr):
    decayed, free = [], list(heads.parameters())
    for name, p in ((n, p) for n, p in model.named_parameters() if p.requires_grad):
        (decayed if p.ndim >= 2 and "embedding" not in name else free).append(p)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": free, "weight_decay": 0.0}], lr, betas=(0.9, 0.98)
    )


def loss_of(model, heads, vocabulary, batch, progress, half=True, teacher=None):
    """The contrastive loss, and the others with their weights at this share of training. half: autocast to bfloat16."""
    images, tokens, labels = normalise(batch[0]), *batch[1:]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        image_features = model.visual(images)
        text_features = encode_text(model, vocabulary, tokens)
    image_features = image_features.float()  # [B, 128]
    unit_image, unit_text = (F.normalize(x.float(), dim=-1) for x in (image_features, text_features))
    logits = model.logit_scale.exp() * unit_image @ unit_text.T  # [B, B]
    target = torch.arange(len(logits))
    contrastive = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    distil = DISTIL * (1 - (unit_image * teacher.aims(images)).sum(-1).mean()) if teacher else 0.0
    fade = max(0.0, 1 - progress / AUXILIARY_END)
    if not fade:
        return contrastive, distil
    auxiliary = sum(
        weight * F.cross_entropy(heads[k](image_features), labels[k], ignore_index=world.NO_LABEL)
        for k, weight in AUXILIARY.items()
    )
    return contrastive, fade * auxiliary + distil


@torch.no_grad()
def held_out_accuracy(model, vocabulary, batches=6, size=160):
    """Zero-shot accuracy (%) on new images: which of 89 things; which of 20 textures, where they fill the image."""
    model.eval()
    things = tokenize([f"a photo of a {n}." for n in world.NAMES])
    textures = tokenize([f"a photo of a {n} texture." for n in world.PATTERN_NAMES])
    text = [F.normalize(encode_text(model, vocabulary, t), dim=-1) for t in (things, textures)]
    right, seen = [0, 0], [0, 0]
    for images, _, labels in (World(HELD_OUT, batches, size)[i] for i in range(batches)):
        features = model.visual(normalise(images))
        full = labels["name"] == world.NO_LABEL
        for k, (chosen, label) in enumerate(((~full, labels["name"]), (full, labels["pattern"]))):
            right[k] += int(((features[chosen] @ text[k].T).argmax(-1) == label[chosen]).sum())
            seen[k] += int(chosen.sum())
    model.train()
    return [100 * r / s for r, s in zip(right, seen)]


def save_checkpoint(path, model, heads, optimizer, met, step, seconds):
    state = {
        "model": model.state_dict(),
        "heads": heads.state_dict(),
        "optimizer": optimizer.state_dict(),
        "met": met,
        "step": step,
        "seconds": seconds,
    }
    with atomic_write(path) as file:
        torch.save(state, file)


def export(folder, kind, model, vocabulary, met):
    """Write open_clip's folder: fp16 weights, in the token table zeros for every token that training never met."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    compact = state["token_embedding.weight"] * met[:, None]
    table = torch.zeros(VOCABULARY, compact.shape[1], dtype=torch.half)
    table[vocabulary.ids] = compact
    state["token_embedding.weight"] = table
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors")
    name = "open_clip_model.safetensors"
    (folder / "SHA256SUMS").write_text(f"{file_hash(folder / name)}  {name}\n", encoding="utf-8")
    config = {"model_cfg": MODELS[kind], "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def report(model, vocabulary, step, size, seconds, loss):
    line = f"step {step} pairs {step * size} seconds {seconds:.0f} loss {loss:.3f} scale {model.logit_scale.exp():.1f}"
    if step % 500 == 0:
        line += " held out: things {:.1f} % textures {:.1f} %".format(*held_out_accuracy(model, vocabulary))
    print(line, flush=True)


def train(folder, kind, checkpoint, steps, size, lr, seed, half=True, teacher="", save_every=200):
    """Train and export to `folder`; goes on from `checkpoint` if it exists. teacher: folder of a trained model, or ""."""
    vocabulary = Vocabulary()
    model, heads = build(kind, seed, vocabulary)
    teacher = Teacher(teacher, model, vocabulary) if teacher else None
    optimizer = build_optimizer(model, heads, lr)
    met, first, before = teacher.met if teacher else torch.zeros(len(vocabulary), dtype=torch.bool), 0, 0.0
    if checkpoint.exists():
        state = safe_torch_load(checkpoint)
        for part, key in ((model, "model"), (heads, "heads"), (optimizer, "optimizer")):
            part.load_state_dict(state[key])
        met, first, before = state["met"], state["step"], state["seconds"]
    parameters = [p for p in (*model.parameters(), *heads.parameters()) if p.requires_grad]
    start, losses = time.time() - before, []
    loader = DataLoader(World(seed, steps, size, first), batch_size=None, num_workers=1, prefetch_factor=4)
    for step, batch in enumerate(loader, first):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        if teacher is None:
            met[vocabulary.row[batch[1]].unique()] = True
        contrastive, auxiliary = loss_of(model, heads, vocabulary, batch, step / steps, half, teacher)
        optimizer.zero_grad()
        (contrastive + auxiliary).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(contrastive.item())
        if (step + 1) % 100 == 0:
            report(model, vocabulary, step + 1, size, time.time() - start, sum(losses) / len(losses))
            losses = []
        if (step + 1) % save_every == 0:
            save_checkpoint(checkpoint, model, heads, optimizer, met, step + 1, time.time() - start)
    export(folder, kind, model, vocabulary, met)


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--kind", choices=MODELS, default="resnet", help="of the image encoder")
    parser.add_argument("--teacher", default="", help="folder of a trained model, whose text encoder is taken over")
    parser.add_argument("--checkpoint", type=Path, default=Path("pretrain.pt"), help="written on the way, resumed from")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=160)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="bf16 is slow on a CPU without such units")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    half = args.precision == "bf16"
    train(args.folder, args.kind, args.checkpoint, args.steps, args.batch, args.lr, args.seed, half, args.teacher)


if __name__ == "__main__":
    sys.exit(program.as_process(main))
