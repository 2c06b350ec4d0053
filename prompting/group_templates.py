"""Sort any list of templates into groups by what CLIP makes of them, and write the group file that MoCoOp reads.

    python -m prompting.group_templates --templates all.txt --groups 6 --classes "forest,river,highway" --out groups.txt
    python train.py ... --trainer MoCoOp ... TRAINER.MOCOOP.TEMPLATES groups.txt

A template's feature is the mean of its unit text features over some class names, itself of length 1. k-means puts the
templates into groups; in each, the template nearest to the group's centre comes first, because MoCoOp's expert starts
from it, and the others follow by distance. The same input and seed give the same file, whatever the templates' order.
"""

import re
import sys
import warnings
from collections import Counter
from pathlib import Path

from basics import UserError, program, write_text
from basics.program import EXIT_STATUSES, Parser

from .templates import TemplateGroup, read_groups
from .tokens import encode

# everyday things of many kinds: what a template adds to a name should show, not the name
CLASSNAMES = (
    "dog", "cat", "bird", "fish", "flower", "tree", "car", "airplane", "boat", "house", "bridge", "chair", "cup",
    "clock", "guitar", "bread", "apple", "mountain", "river", "forest", "person", "face", "shirt", "letter",
)  # fmt: skip
FILLERS = {"a", "an", "the", "of", "photo", "in", "is", "my", "this", "there", "one", "i", "from", "with", "to", "and"}


def read_templates(path):
    """The templates of a file, one a line; blank lines, comments and the groups of a group file don't matter.

    Returns:
        list of templates in the file's order; of those that CLIP reads alike ("A photo", "a photo") the first.

    Raises:
        UserError: no such file, no template in it, a line that isn't a template.
    """
    found = {}
    for group in read_groups(path):
        for template in group.templates:
            found.setdefault(tuple(encode(template.replace("{}", "x"))), template)
    return list(found.values())


def template_features(clip, templates, classnames):
    """Unit features of templates.

    Args:
        clip: prompting.CLIP.
        templates: [T] templates.
        classnames: [C] names to fill in.

    Returns:
        [T, E] numpy array, fp32.
    """
    import torch

    from .clip import unit
    from .soft import hard_programs

    device = clip.text.token_embedding.weight.device
    with torch.no_grad():
        plan = clip.text.compile([hard_programs(t, classnames, clip.tokenizer) for t in templates]).to(device)
        return unit(clip.encode_text(plan).mean(dim=1)).cpu().numpy()


def cluster(templates, features, num_groups, seed=0):
    """Groups of templates by k-means on their features, the best of 20 starts.

    Args:
        templates: [T] templates.
        features: [T, E], unit length.
        num_groups: number of groups, 1 … T.
        seed: of the starts.

    Returns:
        list of TemplateGroup, in the order in which ``templates`` first mentions them; in each the template nearest to
        the centre comes first, the others by distance. The templates' order has no other influence.

    Raises:
        UserError: more groups than different templates, or fewer than one.
    """
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if not 1 <= num_groups <= len(templates):
        count = len(templates)
        raise UserError(f"--groups {num_groups}: {count} different templates make 1 to {count} groups")
    order = sorted(range(len(templates)), key=lambda i: templates[i])
    x = np.asarray(features, dtype=np.float64)[order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # answered below, in words
        means = KMeans(num_groups, n_init=20, random_state=seed).fit(x)
    if len(set(means.labels_)) < num_groups:
        raise UserError(f"--groups {num_groups}: CLIP tells only {len(set(means.labels_))} of the templates apart")
    distance = np.linalg.norm(x - means.cluster_centers_[means.labels_], axis=1).round(9)  # equal ones keep their order
    members = [[] for _ in range(num_groups)]
    for row in np.argsort(distance, kind="stable"):
        members[means.labels_[row]].append(templates[order[row]])
    position = {t: i for i, t in enumerate(templates)}
    members.sort(key=lambda group: min(position[t] for t in group))
    return [TemplateGroup(name, tuple(group)) for name, group in zip(group_names(members), members)]


def group_names(groups):
    """A name for each group of templates, no two alike.

    The words (two at most) that at least half of the group's templates have and that set it apart from the others, or
    else its first template. A word counts by the share of the group's templates that have it, less that of all others.
    """
    words = [[_words(t) for t in group] for group in groups]
    names = []
    for number, own in enumerate(words):
        rest = [w for other, group in enumerate(words) if other != number for w in group]
        inside, outside = Counter(w for t in own for w in t), Counter(w for t in rest for w in t)
        common = [w for w, n in inside.items() if 2 * n >= len(own)]
        score = {w: inside[w] / len(own) - outside[w] / max(len(rest), 1) for w in common}
        best = sorted((w for w in common if score[w] > 0.25), key=lambda w: (-score[w], w))[:2]
        text = " ".join(groups[number]).lower()
        name = " ".join(sorted(best, key=text.index)).capitalize() or groups[number][0].rstrip(".").replace("{}", "...")
        names.append(name if name not in names else f"{name} ({number + 1})")
    return names


def _words(template):
    return set(re.findall(r"[a-z]+(?:-[a-z]+)*", re.sub(r"{}\w*", " ", template.lower()))) - FILLERS


def write_groups(groups, path, header):
    """Write a group file.

    Args:
        groups: list of TemplateGroup.
        path: the file; its folder is made where it doesn't exist.
        header: lines that say what the file is, without #.

    Raises:
        UserError: the file can't be written.
    """
    blocks = ["\n".join(f"# {line}" for line in header)]
    blocks += ["\n".join([f"# {group.name}", *group.templates]) for group in groups]
    write_text("\n\n".join(blocks) + "\n", path)


def class_names(words):
    """Class names of "a, b, c" or of a file with one a line; UserError when there is none."""
    if Path(words).is_file():
        names = Path(words).read_text(encoding="utf-8").splitlines()
    else:
        names = words.split(",")
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise UserError(f'--classes "{words}": no class name')
    return names


def run(args):
    """Do what the arguments say; print the groups."""
    import torch

    from .clip import load_clip

    templates = read_templates(args.templates)
    names = class_names(args.classes) if args.classes else list(CLASSNAMES)
    clip = load_clip(args.backbone, args.path, device="cuda" if torch.cuda.is_available() else "cpu")
    groups = cluster(templates, template_features(clip, templates, names), args.groups, args.seed)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    write_groups(groups, args.out, [
        f"{len(templates)} templates in {len(groups)} groups: one group, one expert.",
        f"By k-means (seed {args.seed}) on the text features of {args.backbone}, averaged over {len(names)} names:",
        f"{shown}. The first template of a group is the nearest to its centre.",
    ])  # fmt: skip
    for group in groups:
        print(f"{group.name}: {len(group.templates)} templates, first {group.templates[0]}")
    print(f"Written to {args.out}")


def main(argv=None):
    """Run one command line; returns the exit status."""
    parser = Parser(
        prog="python -m prompting.group_templates",
        description="Group templates by their CLIP text features, for MoCoOp.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("--templates", required=True, metavar="FILE", help="templates, one a line, each with one {}")
    parser.add_argument("--groups", required=True, type=int, metavar="G", help="number of groups (experts)")
    parser.add_argument("--out", required=True, metavar="FILE", help="group file to write")
    parser.add_argument("--backbone", default="ViT-B/16", help="CLIP model (MODEL.BACKBONE.NAME; default ViT-B/16)")
    parser.add_argument("--path", default="", help="its weight file (MODEL.BACKBONE.PATH; default: from the network)")
    parser.add_argument(
        "--classes",
        default="",
        metavar="A,B,C|FILE",
        help=f"class names to average over (default: {len(CLASSNAMES)} everyday things)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of k-means (default 0)")
    return program.run(lambda: run(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
