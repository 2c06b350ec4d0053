"""Class folders: which there are, their images, and what else lies in them."""

import os

from basics import listdir_nohidden

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp",
)  # fmt: skip
# What programs put beside class folders: our few-shot samples; what macOS puts into zip files
NO_CLASSES = ("split_fewshot", "__MACOSX")


def list_images(folder, nested=False):
    """Sorted names of the image files directly in `folder`; nested: paths below it of those in its sub-folders, too."""
    names = listdir_nohidden(folder)
    if nested:
        names = []
        for where, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = os.path.relpath(where, folder)
            names += [os.path.normpath(os.path.join(inside, name)) for name in files if not name.startswith(".")]
    return sorted(name for name in names if name.lower().endswith(IMAGE_SUFFIXES))


def left_out(folder, nested=False):
    """What a class folder holds beside its images: {"in sub-folders" or a suffix: number of files}; nested: as `list_images`."""
    found = {}
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini"):
                continue
            if suffix not in IMAGE_SUFFIXES:
                found[suffix or "no suffix"] = found.get(suffix or "no suffix", 0) + 1
            elif where != folder and not nested:
                found["in sub-folders"] = found.get("in sub-folders", 0) + 1
    return found


def in_words(found):
    """What `left_out` found, such as "3 images in sub-folders, 2 .heic files"."""
    words = {"in sub-folders": "{} image(s) in sub-folders", "no suffix": "{} file(s) without a suffix"}
    return ", ".join(words.get(kind, f"{{}} {kind} file(s)").format(count) for kind, count in sorted(found.items()))


def no_images(folder):
    """The message for a class folder that has no images directly in it."""
    found = in_words(left_out(folder))
    holds = (
        f"it holds {found}; images must lie directly in it (or DATASET.NESTED True), as {', '.join(IMAGE_SUFFIXES)}"
        if found
        else "it is empty; fill it"
    )
    return f"no images in the class folder {folder}: {holds}"


def list_class_folders(image_dir, ignored=()):
    """Sorted names of the folders in `image_dir`, without hidden ones, those in `ignored` and those that programs put there."""
    ignored = {*ignored, *NO_CLASSES}
    return sorted(
        name for name in listdir_nohidden(image_dir) if name not in ignored and os.path.isdir(os.path.join(image_dir, name))
    )
