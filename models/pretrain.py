"""Contrastive pre-training of the built-in CLIP on the captioned world of `datasets/builtin`.

    python -m models.pretrain models/builtin

Training is driven by steps and seeds, writes a checkpoint every few hundred steps and goes on from it after an
interruption, with the same result. The product is a folder in open_clip's local format. `models/builtin/README.md`
records the committed run.

The loss is CLIP's (Radford et al. 2021), plus four linear heads on the image feature that name the thing, its
texture, its style and its colour; their weight fades to nothing at 75 % of training and they are not kept. Without
them so small a model hardly starts to learn.
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

MODEL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PREPROCESS = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
SIZE = MODEL["vision_cfg"]["image_size"]

HELD_OUT = 999  # seed of the images that progress is measured on
AUXILIARY = {"name": 1.0, "pattern": 0.5, "style": 0.3, "colour": 0.3}  # weights of the heads
AUXILIARY_END = 0.75  # share of training at which they have faded
EASY_SHARE = 0.25  # share of training with mostly photos, before all styles come in full
WARM_UP = 100  # steps


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
        self.row = torch.full((MODEL["text_cfg"]["vocab_size"],), -1)
        self.row[self.ids] = torch.arange(len(self.ids))

    def __len__(self):
        return len(self.ids)


def build(seed, vocabulary):
    """CLIP with a compact token table, and the auxiliary heads."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**MODEL)
    width = MODEL["text_cfg"]["width"]
    model.visual = model.visual.to(memory_format=torch.channels_last)  # a third faster on a CPU
    model.token_embedding = nn.Embedding(len(vocabulary), width)
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    sizes = {
        "name": len(world.NAMES),
        "pattern": len(world.PATTERN_NAMES),
        "style": len(world.STYLES),
        "colour": len(world.COLOURS),
    }
    heads = nn.ModuleDict({k: nn.Linear(MODEL["embed_dim"], n) for k, n in sizes.items()})
    return model, heads


def encode_text(model, vocabulary, tokens):
    """Text features [n, 128] of tokens [n, length <= 77]."""
    n, length = tokens.shape
    x = model.token_embedding(vocabulary.row[tokens]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(n), tokens.argmax(-1)] @ model.text_projection


def build_optimizer(model, heads, lr):
    decayed, free = [], list(heads.parameters())
    for name, p in model.named_parameters():
        (decayed if p.ndim >= 2 and "embedding" not in name else free).append(p)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": free, "weight_decay": 0.0}], lr, betas=(0.9, 0.98)
    )


def loss_of(model, heads, vocabulary, batch, progress):
    """The contrastive loss, and the auxiliary one with its weight at this share of training."""
    images, tokens, labels = batch
    with torch.autocast("cpu", torch.bfloat16):
        image_features = model.visual(normalise(images))
        text_features = encode_text(model, vocabulary, tokens)
    image_features = image_features.float()  # [B, 128]
    unit_text = F.normalize(text_features.float(), dim=-1)
    logits = model.logit_scale.exp() * F.normalize(image_features, dim=-1) @ unit_text.T  # [B, B]
    target = torch.arange(len(logits))
    contrastive = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    fade = max(0.0, 1 - progress / AUXILIARY_END)
    if not fade:
        return contrastive, 0.0
    auxiliary = sum(
        weight * F.cross_entropy(heads[k](image_features), labels[k], ignore_index=world.NO_LABEL)
        for k, weight in AUXILIARY.items()
    )
    return contrastive, fade * auxiliary


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


def export(folder, model, vocabulary, met):
    """Write open_clip's folder: fp16 weights, in the token table zeros for every token that training never met."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    compact = state["token_embedding.weight"] * met[:, None]
    table = torch.zeros(MODEL["text_cfg"]["vocab_size"], compact.shape[1], dtype=torch.half)
    table[vocabulary.ids] = compact
    state["token_embedding.weight"] = table
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors")
    name = "open_clip_model.safetensors"
    (folder / "SHA256SUMS").write_text(f"{file_hash(folder / name)}  {name}\n", encoding="utf-8")
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def report(model, vocabulary, step, size, seconds, loss):
    line = f"step {step} pairs {step * size} seconds {seconds:.0f} loss {loss:.3f} scale {model.logit_scale.exp():.1f}"
    if step % 500 == 0:
        line += " held out: things {:.1f} % textures {:.1f} %".format(*held_out_accuracy(model, vocabulary))
    print(line, flush=True)


def train(folder, checkpoint, steps, size, lr, seed, save_every=200):
    """Train and export to `folder`; goes on from `checkpoint` if it exists."""
    vocabulary = Vocabulary()
    model, heads = build(seed, vocabulary)
    optimizer = build_optimizer(model, heads, lr)
    met, first, before = torch.zeros(len(vocabulary), dtype=torch.bool), 0, 0.0
    if checkpoint.exists():
        state = safe_torch_load(checkpoint)
        for part, key in ((model, "model"), (heads, "heads"), (optimizer, "optimizer")):
            part.load_state_dict(state[key])
        met, first, before = state["met"], state["step"], state["seconds"]
    parameters = [*model.parameters(), *heads.parameters()]
    start, losses = time.time() - before, []
    loader = DataLoader(World(seed, steps, size, first), batch_size=None, num_workers=1, prefetch_factor=4)
    for step, batch in enumerate(loader, first):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        met[vocabulary.row[batch[1]].unique()] = True
        contrastive, auxiliary = loss_of(model, heads, vocabulary, batch, step / steps)
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
    export(folder, model, vocabulary, met)


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--checkpoint", type=Path, default=Path("pretrain.pt"), help="written on the way, resumed from")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=160)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.folder, args.checkpoint, args.steps, args.batch, args.lr, args.seed)


if __name__ == "__main__":
    sys.exit(program.as_process(main))
