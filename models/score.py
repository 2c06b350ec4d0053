"""How well a model knows the built-in sets: zero-shot, linear probe, and CoOp in its plain form, on 16 images a class.

    python -m models.score models/builtin

prints the table of `models/builtin/README.md` in about a minute on one core. It needs no data folder and none of the
trainers: a second, short computation of what the product should find.
"""

import math
import sys

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn
from torchvision import transforms

from basics import program
from basics.program import Parser
from datasets.builtin import sets

SHOTS, SEEDS = 16, (1, 2, 3)
TEMPLATES = {"textures": "a photo of a {} texture."}
DEFAULT_TEMPLATE = "a photo of a {}."
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load(folder):
    """The frozen model of an open_clip folder, fp32, in evaluation mode."""
    model = open_clip.create_model(f"local-dir:{folder}", precision="fp32")
    return model.eval().requires_grad_(False)


def transform(size=64):
    """The test transform of all trainers: bicubic, centre crop, CLIP's mean and deviation."""
    resize = transforms.Resize(size, transforms.InterpolationMode.BICUBIC)
    normalise = transforms.Normalize(MEAN, STD)
    return transforms.Compose([resize, transforms.CenterCrop(size), transforms.ToTensor(), normalise])


@torch.no_grad()
def image_features(model, images):
    """Unit features [n, 128] of uint8 images [n, 48, 48, 3]."""
    view = transform()
    chunks = np.array_split(images, max(1, len(images) // 256))
    return torch.cat(
        [model.encode_image(torch.stack([view(Image.fromarray(a)) for a in chunk]), normalize=True) for chunk in chunks]
    )


def text_features(model, tokens, ctx=None):
    """Unit features [C, 128] of tokens [C, 77]; `ctx` [M, 128] replaces the M tokens behind the start token."""
    length = int(tokens.argmax(-1).max()) + 1
    x = model.token_embedding(tokens[:, :length])
    if ctx is not None:
        x = torch.cat([x[:, :1], ctx.expand(len(x), -1, -1), x[:, 1 + len(ctx) :]], 1)
    x = x + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return F.normalize(x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection, dim=-1)


def accuracy(image, text, labels):
    """Per cent of images whose nearest text feature is that of their label."""
    return 100 * ((image @ text.T).argmax(-1) == labels).float().mean().item()


class Features:
    """A set as the model sees it, and its base and new halves. Only what is asked for is encoded."""

    def __init__(self, model, name):
        self.model, self.name, self.classes = model, name, sets.CLASSES[name]
        self.template = TEMPLATES.get(name, DEFAULT_TEMPLATE)
        self.base = math.ceil(len(self.classes) / 2)
        self.parts = {part: (x, torch.from_numpy(y).long()) for part, (x, y) in sets.make(name).items()}
        self.encoded = {}

    def select(self, part, which):
        """Features and labels (from 0) of "base", "new" or "all" classes."""
        images, y = self.parts[part]
        if part not in self.encoded:
            self.encoded[part] = image_features(self.model, images)
        keep = {"all": y >= 0, "base": y < self.base, "new": y >= self.base}[which]
        return self.encoded[part][keep], y[keep] - (self.base if which == "new" else 0)

    def names(self, which):
        return {"all": self.classes, "base": self.classes[: self.base], "new": self.classes[self.base :]}[which]

    def shots(self, seed):
        """Features and labels of 16 random training images of every base class."""
        if ("shots", seed) not in self.encoded:
            images, y = self.parts["train"]
            order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
            keep = torch.cat([order[y[order] == c][:SHOTS] for c in range(self.base)])
            self.encoded["shots", seed] = image_features(self.model, images[keep.numpy()]), y[keep]
        return self.encoded["shots", seed]

    @torch.no_grad()
    def zero_shot(self, which):
        tokens = open_clip.tokenize([self.template.format(n) for n in self.names(which)])
        x, y = self.select("test", which)
        return accuracy(x, text_features(self.model, tokens), y)

    def linear_probe(self, seed):
        """Base accuracy of logistic regression; C is the largest of those that do best on the validation images."""
        x, y = self.shots(seed)
        probes = [LogisticRegression(C=10.0**c, max_iter=300).fit(x, y) for c in (4, 3, 2, 1)]
        best = max(probes, key=lambda probe: probe.score(*self.select("val", "base")))
        return 100 * best.score(*self.select("test", "base"))

    def coop(self, seed, epochs=50, lr=0.02, batch=32, init="a photo of a"):
        """CoOp's base and new accuracy: a shared context, SGD, cosine with one warm-up epoch, no augmentation."""
        x, y = self.shots(seed)
        tokens = {k: open_clip.tokenize([f"{init} {n}." for n in self.names(k)]) for k in ("base", "new")}
        ctx = nn.Parameter(self.model.token_embedding(tokens["base"])[0, 1 : 1 + len(init.split())].clone())
        optimizer = torch.optim.SGD([ctx], lr, momentum=0.9, weight_decay=5e-4)
        generator, scale = torch.Generator().manual_seed(seed), self.model.logit_scale.exp()
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs)) if epoch else 1e-5
            order = torch.randperm(len(y), generator=generator)
            for rows in order[: len(y) // batch * batch].view(-1, batch):
                loss = F.cross_entropy(scale * x[rows] @ text_features(self.model, tokens["base"], ctx).T, y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            text = {k: text_features(self.model, tokens[k], ctx) for k in tokens}
        return [accuracy(self.select("test", k)[0], text[k], self.select("test", k)[1]) for k in ("base", "new")]


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="open_clip folder of the model")
    parser.add_argument("sets", nargs="*", default=list(sets.CLASSES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load(args.folder)
    print("| set | classes | zero-shot all | base | new | linear probe base | CoOp base | new |\n" + "|---" * 8 + "|")
    for name in args.sets:
        features = Features(model, name)
        cells = [f"{features.zero_shot(which):.1f}" for which in ("all", "base", "new")]
        if len(features.parts["train"][1]):
            cells.append(f"{np.mean([features.linear_probe(s) for s in SEEDS]):.1f}")
            cells += [f"{v:.1f}" for v in np.mean([features.coop(s) for s in SEEDS], 0)]
        cells += ["–"] * (6 - len(cells))
        print(f"| {name} | {len(features.classes)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(program.as_process(main))
