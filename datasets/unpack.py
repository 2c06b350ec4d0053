"""Unpacks archives without trusting them, and puts what they hold where the layout wants it.

An archive is unpacked beside its destination and moved when it is complete, so that a folder that exists is whole.
Members with absolute paths, with `..`, links and devices are refused, and with them the archive.
"""

import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib

from tqdm import tqdm

from basics import UserError

JUNK = ("__MACOSX", ".DS_Store")  # what macOS adds to archives
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, IndexError,
          NotImplementedError, OverflowError, RuntimeError, ValueError)  # fmt: skip


def unpack(archive, folder, target, anchors, inner=None):
    """Unpack `archive` so that one of `anchors` becomes `folder`/`target`; what lies beside it goes into `folder`.

    Args:
        archive: path of a tar (any compression) or zip file.
        folder: the dataset's folder. Files that are already there are kept.
        target: name that the anchor gets in `folder`.
        anchors: names to look for in the archive, at any depth; the first that is found, the least deep one.
        inner: name of an archive inside, which is unpacked in place of the rest.

    Raises:
        UserError: the archive is damaged, hostile, or holds none of the anchors. Nothing of it is left then.
    """
    scratch = os.path.join(folder, f".unpack-{target}")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        extract(archive, scratch)
        if inner:
            nested = _find(scratch, (inner,))
            if nested is None:
                raise UserError(f"{archive} holds no {inner}, but {_overview(scratch)}; is it the right archive?")
            extract(nested, os.path.join(scratch, ".inner"))
            scratch_root = os.path.join(scratch, ".inner")
        else:
            scratch_root = scratch
        found = _find(scratch_root, anchors)
        if found is None:
            raise UserError(
                f"{archive} holds no {' or '.join(dict.fromkeys(anchors))}, but {_overview(scratch_root)}; "
                f"is it the right archive?"
            )
        _move_in(found, folder, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def extract(archive, folder):
    """Unpack all members of `archive` into the new folder `folder`.

    Raises:
        UserError: damaged archive, no archive at all, a member that is refused, or a full disk.
    """
    os.makedirs(folder)
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, folder)
        elif tarfile.is_tarfile(archive):
            _extract_tar(archive, folder)
        else:
            raise UserError(
                f"{archive} is neither a zip nor a tar file (perhaps a web page that was saved in its "
                f"place); delete it and download it again"
            )
    except DAMAGE as error:
        raise UserError(f"{archive} is damaged ({error}); delete it and download it again") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive} into {folder}: {error.strerror or error}") from error


def _extract_zip(archive, folder):
    with zipfile.ZipFile(archive) as file:
        for member in _progress(file.infolist(), archive):
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(f"{archive}: refused, because its member {member.filename!r} is a link")
            path = _safe_path(folder, member.filename, archive)
            if path is None:
                continue
            if member.is_dir():
                os.makedirs(path, exist_ok=True)
            else:
                with file.open(member) as source:  # reading to the end checks the member's CRC
                    _write(source, path)


def _extract_tar(archive, folder):
    with tarfile.open(archive) as file:
        for member in _progress(file, archive):
            if not (member.isfile() or member.isdir()):
                kind = "a link" if member.issym() or member.islnk() else "a device"
                raise UserError(f"{archive}: refused, because its member {member.name!r} is {kind}")
            path = _safe_path(folder, member.name, archive)
            if path is None:
                continue
            if member.isdir():
                os.makedirs(path, exist_ok=True)
            else:
                _write(file.extractfile(member), path)


def _progress(members, archive):
    return tqdm(members, unit=" files", desc=f"  unpacking {os.path.basename(archive)}", disable=None)


def _safe_path(folder, name, archive):
    """Where a member goes below `folder`; None for what isn't wanted. UserError if it points outside."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name) or ".." in parts:
        raise UserError(f"{archive}: refused, because its member {name!r} would be written outside the target folder")
    if not parts or parts[0] in JUNK or parts[-1] in JUNK or parts[-1].startswith("._"):
        return None
    return os.path.join(folder, *parts)


def _write(source, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _find(folder, names):
    """Path of the least deep entry of `folder` with one of `names`; earlier names first."""
    for name in names:
        level = [folder]
        while level:
            deeper = []
            for parent in level:
                if os.path.exists(os.path.join(parent, name)):
                    return os.path.join(parent, name)
                deeper.extend(entry.path for entry in os.scandir(parent) if entry.is_dir())
            level = sorted(deeper)
    return None


def _overview(folder):
    """The first entries of `folder`, for a message."""
    names = sorted(name for name in os.listdir(folder) if name != ".inner")
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "nothing"


def _move_in(anchor, folder, target):
    """Move what lies beside `anchor` into `folder`, and the anchor last: its presence says that all is there."""
    parent = os.path.dirname(anchor)
    beside = [name for name in sorted(os.listdir(parent)) if os.path.join(parent, name) != anchor]
    for name in beside:
        _merge(os.path.join(parent, name), os.path.join(folder, name))
    _merge(anchor, os.path.join(folder, target))


def _merge(source, target):
    """Move `source` to `target`; of two folders the contents are merged, and what is already there stays."""
    if not os.path.lexists(target):
        os.replace(source, target)
    elif os.path.isdir(source) and os.path.isdir(target):
        for name in os.listdir(source):
            _merge(os.path.join(source, name), os.path.join(target, name))
