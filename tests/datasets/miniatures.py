"""Miniatures: every dataset in its true format on disk, with a few classes of a few tiny images.

`MINIATURES[name](root)` builds one below `root`, annotations included, without the JSON split, and returns what a
correct reader finds. `write_split` adds the JSON split where the dataset has one.
"""

import io
import json
import pathlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy.io import savemat

PER_CLASS = 10  # images of a class, where the format leaves it open: 5 train, 2 val, 3 test


@dataclass
class Miniature:
    """What a correct reader finds without a split file.

    classnames: in label order. sizes: images in train, val, test. images: folder that split paths are relative to.
    files: {class name: paths relative to `images`}. split_file: its name, None where the format has none.
    """

    folder: pathlib.Path
    classnames: list
    sizes: tuple
    images: pathlib.Path
    files: dict = field(default_factory=dict)
    split_file: str | None = None


def jpeg(seed):
    """Bytes of a 32 x 32 JPEG of one colour."""
    stream = io.BytesIO()
    colour = tuple(int(v) for v in np.random.default_rng(seed).integers(0, 256, 3))
    Image.new("RGB", (32, 32), colour).save(stream, "JPEG")
    return stream.getvalue()


def write_image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(seed))


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_split(mini):
    """Add the JSON split: of every class the first 4 images for train, then 1 for val, the rest for test."""
    split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(mini.classnames):
        for i, path in enumerate(mini.files[name]):
            split["train" if i < 4 else "val" if i == 4 else "test"].append([path, label, name])
    (mini.folder / mini.split_file).write_text(json.dumps(split))
    return split


def class_folders(folder, images, names, split_file, ignored=()):
    """A dataset of class folders. names: {folder: class name}, in sorted order of the folders."""
    files = {}
    for label, (name, classname) in enumerate(names.items()):
        files[classname] = [f"{name}/{name.lower()}_{i:04d}.jpg" for i in range(PER_CLASS)]
        for path in files[classname]:
            write_image(folder / images / path, label)
    for name in ignored:
        write_image(folder / images / name / "image_0001.jpg")
    (folder / images / ".DS_Store").write_bytes(b"\0")
    (folder / images / next(iter(names)) / "Thumbs.db").write_bytes(b"\0")
    n = len(names)
    return Miniature(folder, list(names.values()), (5 * n, 2 * n, 3 * n), folder / images, files, split_file)


def eurosat(root):
    names = {
        "AnnualCrop": "Annual Crop Land",
        "Forest": "Forest",
        "River": "River",
        "SeaLake": "Sea or Lake",
        "Highway": "Highway or Road",
    }
    return class_folders(root / "eurosat", "2750", dict(sorted(names.items())), "split_zhou_EuroSAT.json")


def caltech101(root):
    names = {
        "Faces": "face",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
        "accordion": "accordion",
        "airplanes": "airplane",
        "sea_horse": "sea_horse",
    }
    return class_folders(
        root / "caltech-101",
        "101_ObjectCategories",
        names,
        "split_zhou_Caltech101.json",
        ignored=("BACKGROUND_Google", "Faces_easy"),
    )


def dtd(root):
    names = {name: name for name in ("banded", "blotchy", "polka-dotted", "zigzagged")}
    return class_folders(root / "dtd", "images", names, "split_zhou_DescribableTextures.json")


def food101(root):
    names = {name: name for name in ("apple_pie", "baby_back_ribs", "sushi", "tiramisu")}
    return class_folders(root / "food-101", "images", names, "split_zhou_Food101.json")


def oxford_pets(root):
    folder = root / "oxford_pets"
    breeds = ["Abyssinian", "american_bulldog", "Bengal", "yorkshire_terrier"]
    files, trainval, test = {}, [], []
    for label, breed in enumerate(breeds):
        names = [f"{breed}_{i}" for i in range(1, PER_CLASS + 1)]
        files[breed.lower()] = [name + ".jpg" for name in names]
        for i, name in enumerate(names):
            write_image(folder / "images" / (name + ".jpg"), label)
            (trainval if i < 5 else test).append(f"{name} {label + 1} {1 + label % 2} 1")
    write_lines(folder / "annotations" / "trainval.txt", trainval)
    write_lines(folder / "annotations" / "test.txt", test)
    return Miniature(folder, [b.lower() for b in breeds], (16, 4, 20), folder / "images", files, "split_zhou_OxfordPets.json")


def struct_array(rows, fields):
    """Rows as the 1 x N struct array that MATLAB's files hold."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in fields])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row)
    return array


def stanford_cars(root):
    folder = root / "stanford_cars"
    models = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Tesla Model S Sedan 2012"]
    names = ["2000 AM General Hummer SUV", "2012 Acura RL Sedan", "2012 Tesla Model S Sedan"]
    (folder / "devkit").mkdir(parents=True)
    classes = np.empty((1, len(models)), dtype=object)
    classes[0, :] = models
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": classes})
    files = {name: [] for name in names}
    for part, path in (("cars_train", "devkit/cars_train_annos.mat"), ("cars_test", "cars_test_annos_withlabels.mat")):
        rows = []
        for i in range(15):
            write_image(folder / part / f"{i + 1:05d}.jpg", i % 3)
            files[names[i % 3]].append(f"{part}/{i + 1:05d}.jpg")
            rows.append((1, 1, 30, 30, i % 3 + 1, f"{i + 1:05d}.jpg"))
        fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
        savemat(folder / path, {"annotations": struct_array(rows, fields)})
    return Miniature(folder, names, (12, 3, 15), folder, files, "split_zhou_StanfordCars.json")


def oxford_flowers(root):
    folder = root / "oxford_flowers"
    names = ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"]
    labels = [2, 1, 3] * PER_CLASS
    files = {name: [] for name in names}
    for i, label in enumerate(labels, 1):
        write_image(folder / "jpg" / f"image_{i:05d}.jpg", label)
        files[names[label - 1]].append(f"image_{i:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    (folder / "cat_to_name.json").write_text(json.dumps({str(i + 1): name for i, name in enumerate(names)}))
    return Miniature(folder, names, (15, 6, 9), folder / "jpg", files, "split_zhou_OxfordFlowers.json")


def fgvc_aircraft(root):
    folder = root / "fgvc_aircraft"
    names = ["707-320", "727-200", "A300B4", "Cessna 172", "Spitfire"]
    write_lines(folder / "variants.txt", names)
    files, number = {name: [] for name in names}, 1000000
    for part, n in (("train", 4), ("val", 2), ("test", 3)):
        lines = []
        for name in names:
            for _ in range(n):
                number += 17
                write_image(folder / "images" / f"{number}.jpg", number)
                lines.append(f"{number} {name}")
                files[name].append(f"{number}.jpg")
        write_lines(folder / f"images_variant_{part}.txt", lines)
    return Miniature(folder, names, (20, 10, 15), folder / "images", files)


def sun397(root):
    folder = root / "sun397"
    names = {"a/abbey": "abbey", "b/bakery/shop": "shop bakery", "k/kitchen": "kitchen", "k/kitchen/indoor": "indoor kitchen"}
    write_lines(folder / "ClassName.txt", [f"/{name}" for name in names])
    files, lists = {}, {"Training_01.txt": [], "Testing_01.txt": []}
    for label, (name, classname) in enumerate(names.items()):
        files[classname] = [f"{name}/sun_{i:016x}.jpg" for i in range(PER_CLASS)]
        for i, path in enumerate(files[classname]):
            write_image(folder / "SUN397" / path, label)
            lists["Training_01.txt" if i < 5 else "Testing_01.txt"].append(f"/{path}")
    for name, lines in lists.items():
        write_lines(folder / name, lines)
    return Miniature(folder, list(names.values()), (16, 4, 20), folder / "SUN397", files, "split_zhou_SUN397.json")


def ucf101(root):
    folder = root / "ucf101"
    names = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "Archery": "Archery", "HandstandPushups": "Handstand_Pushups", "YoYo": "Yo_Yo"}
    write_lines(folder / "ucfTrainTestlist" / "classInd.txt", [f"{i} {name}" for i, name in enumerate(names, 1)])
    files, train, test = {}, [], []
    for label, (action, classname) in enumerate(names.items()):
        videos = [f"v_{action}_g{i:02d}_c01" for i in range(1, PER_CLASS + 1)]
        files[classname] = [f"{classname}/{video}.jpg" for video in videos]
        for i, video in enumerate(videos):
            write_image(folder / "UCF-101-midframes" / classname / f"{video}.jpg", label)
            (train if i < 5 else test).append(f"{action}/{video}.avi" + (f" {label + 1}" if i < 5 else ""))
    write_lines(folder / "ucfTrainTestlist" / "trainlist01.txt", train)
    write_lines(folder / "ucfTrainTestlist" / "testlist01.txt", test)
    return Miniature(folder, list(names.values()), (16, 4, 20), folder / "UCF-101-midframes", files, "split_zhou_UCF101.json")


# Not in sorted order: labels must follow the sorted folders, not the lines of classnames.txt.
SYNSETS = {
    "n02000001": "black grouse",
    "n01440764": "tench",
    "n01443537": "goldfish",
    "n01484850": "great white shark",
    "n04000001": "projectile",
}


def write_classnames(folder, names=None):
    write_lines(folder / "classnames.txt", [f"{wnid} {name}" for wnid, name in (names or SYNSETS).items()])


def imagenet(root):
    folder = root / "imagenet"
    write_classnames(folder)
    names = dict(sorted(SYNSETS.items()))
    for label, wnid in enumerate(names):
        for i in range(6):
            write_image(folder / "images" / "train" / wnid / f"{wnid}_{i}.JPEG", label)
        for i in range(2):
            write_image(folder / "images" / "val" / wnid / f"ILSVRC2012_val_{label * 2 + i + 1:08d}.JPEG", label)
    return Miniature(folder, list(names.values()), (30, 10, 10), folder / "images")


def variant(root, folder, images, wnids):
    folder = root / folder
    write_classnames(folder)
    for label, wnid in enumerate(sorted(wnids)):
        for i in range(3):
            write_image(folder / images / wnid / f"{i}.jpg", label)
    (folder / images / "README.txt").write_text("about")
    n = 3 * len(wnids)
    return Miniature(folder, [SYNSETS[wnid] for wnid in sorted(wnids)], (n, 0, n), folder / images)


def imagenet_a(root):
    return variant(root, "imagenet-adversarial", "imagenet-a", ["n04000001", "n01443537", "n02000001"])


def imagenet_r(root):
    return variant(root, "imagenet-rendition", "imagenet-r", ["n01440764", "n04000001", "n01484850"])


def imagenet_sketch(root):
    return variant(root, "imagenet-sketch", "images", list(SYNSETS))


def imagenetv2(root):
    folder = root / "imagenetv2"
    names = {f"n{10000000 + i}": f"thing {i}" for i in range(12)}  # more than ten: "10" must not sort before "2"
    write_classnames(folder, names)
    images = folder / "imagenetv2-matched-frequency-format-val"
    for label in range(12):
        for i in range(2):
            write_image(images / str(label) / f"{label:02d}{i}.jpeg", label)
    return Miniature(folder, list(names.values()), (24, 0, 24), images)


MINIATURES = {
    "Caltech101": caltech101,
    "DescribableTextures": dtd,
    "EuroSAT": eurosat,
    "FGVCAircraft": fgvc_aircraft,
    "Food101": food101,
    "ImageNet": imagenet,
    "ImageNetA": imagenet_a,
    "ImageNetR": imagenet_r,
    "ImageNetSketch": imagenet_sketch,
    "ImageNetV2": imagenetv2,
    "OxfordFlowers": oxford_flowers,
    "OxfordPets": oxford_pets,
    "StanfordCars": stanford_cars,
    "SUN397": sun397,
    "UCF101": ucf101,
}
WITH_SPLIT = [
    name
    for name in MINIATURES
    if name not in ("FGVCAircraft", "ImageNet", "ImageNetA", "ImageNetR", "ImageNetSketch", "ImageNetV2")
]
