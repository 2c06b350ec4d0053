"""Sort any list of templates into groups by what CLIP makes of them, and write the group file that MoCoOp reads.

    python -m prompting.group_templates --templates all.txt --groups 6 --classes "forest,river,highway" --out groups.txt
    python -m prompting.group_templates --descriptions cupl.json --groups auto --out groups.json
    python train.py ... --trainer MoCoOp ... TRAINER.MOCOOP.TEMPLATES groups.txt

A template's feature is the mean of its unit text features over some class names, itself of length 1. k-means puts the
templates into groups; in each, the template nearest to the group's centre comes first, because MoCoOp's expert starts
from it, and the others follow by distance. The same input and seed give the same file, whatever the templates' order.

Descriptions of classes (CuPL's JSON: {class: [sentences]}) are sorted by what is left of a sentence's feature without the mean of
its class, so that groups are kinds of sentences and not classes. ``--groups auto`` takes the number of groups, from 2 to --most,
whose mean silhouette (Rousseeuw 1987) is highest.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from basics import UserError, home, program, write_text
from basics.program import EXIT_STATUSES, Parser

from .clustering import grouped, silhouettes
from .descriptions import read_descriptions, sentence_programs, write_described
from .templates import GENERIC, TemplateGroup, check_line, read_groups
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
    """Groups of templates by ``grouped``: list of TemplateGroup. Args and errors as there."""
    groups = [[templates[i] for i in members] for members in grouped(templates, features, num_groups, seed)]
    return [TemplateGroup(name, tuple(group)) for name, group in zip(group_names(groups), groups)]


def number_of_groups(args, texts, features):
    """What --groups says; for auto the number with the highest silhouette, of equal ones the smallest."""
    if args.groups != "auto":
        return int(args.groups)
    found = silhouettes(texts, features, args.most, args.seed)
    best = max(found, key=lambda number: (round(found[number], 9), -number))
    print("Mean silhouette: " + ", ".join(f"{number} groups {value:.3f}" for number, value in found.items()))
    if best == args.most:
        print(f"Note: the silhouette is highest at the largest number tried (--most {best}): perhaps no number is natural")
    return best


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
    print(f"Loading {args.backbone}", file=sys.stderr, flush=True)
    import torch

    from .clip import load_clip

    clip = load_clip(args.backbone, args.path, device="cuda" if torch.cuda.is_available() else "cpu")
    groups = described_groups(args, clip) if args.descriptions else template_groups(args, clip)
    for group in groups:
        count = sum(len(texts) for _, texts in group.sentences)
        held = f"{count} sentences of {len(group.sentences)} classes" if count else f"{len(group.templates)} templates"
        print(f"{group.name}: {held}, first {group.sentences[0][1][0] if count else group.templates[0]}")
    print(f"Written to {args.out}")


def template_groups(args, clip):
    """Group templates and write the file."""
    templates = read_templates(args.templates)
    names = class_names(args.classes) if args.classes else list(CLASSNAMES)
    features = template_features(clip, templates, names)
    groups = cluster(templates, features, number_of_groups(args, templates, features), args.seed)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    write_groups(groups, args.out, [
        f"{len(templates)} templates in {len(groups)} groups: one group, one expert.",
        f"By k-means (seed {args.seed}) on the text features of {args.backbone}, averaged over {len(names)} names:",
        f"{shown}. The first template of a group is the nearest to its centre.",
    ])  # fmt: skip
    return groups


def described_groups(args, clip):
    """Group the sentences of descriptions, whatever their class, and write the file."""
    described = read_descriptions(args.descriptions)
    pairs = [(name, sentence) for name, sentences in described.items() for sentence in sentences]
    texts = [sentence for _, sentence in pairs]
    features = kinds_of_sentences(clip, pairs)
    groups, members = [], grouped(texts, features, number_of_groups(args, texts, features), args.seed)
    for name, numbers in zip(group_names([[texts[i] for i in numbers] for numbers in members]), members):
        own = {}
        for i in numbers:
            own.setdefault(pairs[i][0], []).append(pairs[i][1])
        groups.append(TemplateGroup(name, (args.start,), tuple((key, tuple(value)) for key, value in own.items())))
    about = f"{len(pairs)} sentences on {len(described)} classes by k-means (seed {args.seed}) on the text features of "
    write_described(groups, args.out, f"{about}{args.backbone}, each less the mean of its class")
    return groups


def kinds_of_sentences(clip, pairs):
    """Unit vectors [T, E] of (class, sentence) pairs: a sentence's unit feature less the mean of its class's."""
    import numpy as np
    import torch

    from .clip import unit

    device = clip.text.token_embedding.weight.device
    programs, cut = sentence_programs([sentence for _, sentence in pairs], clip.tokenizer)
    if cut:
        print(
            f"{cut} of {len(programs)} sentences are longer than the text encoder's {clip.tokenizer.context_length} tokens: cut"
        )
    with torch.no_grad():
        x = unit(clip.encode_text(clip.text.compile([programs]).to(device)))[0].double().cpu().numpy()  # [T, E]
    classes = np.array([name for name, _ in pairs])
    for name in set(classes):
        x[classes == name] -= x[classes == name].mean(axis=0)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def checked(args):
    """The arguments, whose words mean something together; UserError otherwise."""
    if args.groups != "auto" and not args.groups.isdigit():
        raise UserError(f"--groups {args.groups}: give a number, or auto")
    if args.descriptions and not args.out.endswith(".json"):
        raise UserError(f"--out {args.out}: a group file of descriptions ends in .json")
    if args.descriptions and args.classes:
        raise UserError("--classes: descriptions name their classes themselves")
    check_line(args.start, "--start")
    return args


def main(argv=None):
    """Run one command line; returns the exit status."""
    parser = Parser(
        prog=home.command("groups"),
        description="Group templates by their CLIP text features, for MoCoOp.",
        epilog=EXIT_STATUSES,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--templates", metavar="FILE", help="templates, one a line, each with one {}")
    what.add_argument("--descriptions", metavar="FILE", help="sentences on classes, JSON {class: [sentences]}, as CuPL's")
    parser.add_argument("--groups", required=True, metavar="G|auto", help="number of groups (experts); auto: by silhouette")
    parser.add_argument("--most", type=int, default=12, help="with --groups auto: the largest number (default %(default)s)")
    parser.add_argument(
        "--start", default=GENERIC, help="with --descriptions: template that experts start from (default %(default)s)"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="group file to write: text, or JSON for descriptions")
    parser.add_argument("--backbone", default="ViT-B/16", help="CLIP model (MODEL.BACKBONE.NAME; default ViT-B/16)")
    parser.add_argument("--path", default="", help="its weight file (MODEL.BACKBONE.PATH; default: from the network)")
    parser.add_argument(
        "--classes",
        default="",
        metavar="A,B,C|FILE",
        help=f"class names to average over (default: {len(CLASSNAMES)} everyday things)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of k-means (default 0)")
    return program.run(lambda: run(checked(parser.parse_args(argv))))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
