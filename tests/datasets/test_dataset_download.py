"""`python -m datasets.download` against a server on this machine, with small archives of the real layout."""

import dataclasses
import hashlib
import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pytest
from archive_server import as_tar, as_zip, tree, under
from miniatures import MINIATURES, SYNSETS, jpeg, struct_array
from scipy.io import savemat

from datasets import fetch, imagenet_archives
from datasets.download import main
from datasets.names import find_dataset
from datasets.sources import HUB_REPOSITORY


def serve_on_hub(server, name, content, sha256=None):
    server.files[f"/api/models/{HUB_REPOSITORY}"] = json.dumps(
        {
            "siblings": [
                {"rfilename": "README.md"},
                {"rfilename": name, "lfs": {"sha256": sha256 or hashlib.sha256(content).hexdigest()}},
            ]
        }
    ).encode()
    server.files[f"/{HUB_REPOSITORY}/resolve/main/{name}"] = content


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.mark.parametrize("name", [name for name in MINIATURES if name not in ("ImageNet", "StanfordCars")])
def test_every_dataset_lands_in_its_layout(name, publish, root, build, server, capsys):
    """What was downloaded reads as the original does; a second call has nothing to do."""
    mini = publish(name)
    assert main([name, "--root", str(root)]) == 0
    dataset, original = build(name, ROOT=str(root)), build(name, ROOT=str(mini.folder.parent))
    assert dataset.classnames == mini.classnames
    for ours, theirs in zip(
        (dataset.train_x, dataset.val or [], dataset.test), (original.train_x, original.val or [], original.test)
    ):
        assert [(os.path.relpath(i.impath, root), i.label) for i in ours] == [
            (os.path.relpath(i.impath, mini.folder.parent), i.label) for i in theirs
        ]
    assert not list((root / "downloads").iterdir()) and not list(root.rglob(".unpack*"))
    n_requests = len(server.requests)
    assert main([name, "--root", str(root)]) == 0
    assert len(server.requests) == n_requests
    assert f"{name}: complete in" in capsys.readouterr().out


def test_annotations_are_left_out_where_the_split_is_there(publish, root, server):
    publish("OxfordPets")
    assert main(["oxford_pets", "--root", str(root)]) == 0
    assert not (root / "oxford_pets" / "annotations").exists()


def test_annotations_serve_where_the_split_cannot_be_had(publish, root, server, build, capsys):
    """The command says that the published split is missing, but what it could get works."""
    mini = publish("OxfordPets", split=False)
    assert main(["OxfordPets", "--root", str(root)]) == 2
    assert "missing in" in capsys.readouterr().err
    assert build("OxfordPets", ROOT=str(root)).classnames == mini.classnames


def test_names_of_yaml_files_and_several_at_once(publish, root):
    publish("EuroSAT")
    publish("DescribableTextures")
    assert main(["eurosat", "dtd", "--root", str(root)]) == 0
    assert (root / "dtd" / "images" / "banded").is_dir() and (root / "eurosat" / "2750" / "Forest").is_dir()


def test_unknown_name(root, capsys):
    assert main(["EuroSAD", "--root", str(root)]) == 2
    assert "did you mean eurosat" in capsys.readouterr().err


def test_wrong_checksum(publish, root, server, monkeypatch, capsys):
    """Nothing of the file is kept, the sums are named, and the hub is tried next."""
    publish("EuroSAT")
    server.files["/EuroSAT.zip"] = as_zip({"2750/Forest/other.jpg": jpeg(1)})
    assert main(["EuroSAT", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert hashlib.md5(server.files["/EuroSAT.zip"]).hexdigest() in error and "the file was deleted" in error
    assert f"/api/models/{HUB_REPOSITORY}" in [path for path, _ in server.requests]
    assert not (root / "eurosat" / "2750").exists() and not list((root / "downloads").iterdir())


def test_broken_transfer_is_continued(publish, root, server):
    publish("EuroSAT")
    server.breaks["/EuroSAT.zip"] = 2
    assert main(["EuroSAT", "--root", str(root)]) == 0
    starts = server.starts("/EuroSAT.zip")
    assert len(starts) == 3 and 0 == starts[0] < starts[1] < starts[2]


def test_broken_transfer_is_continued_by_the_next_call(publish, root, server, capsys):
    publish("EuroSAT")
    server.breaks["/EuroSAT.zip"] = 99
    assert main(["EuroSAT", "--root", str(root)]) == 2
    assert "what has arrived is kept and continued next time" in capsys.readouterr().err
    part = root / "downloads" / "EuroSAT.zip.part"
    have = part.stat().st_size
    assert 0 < have < len(server.files["/EuroSAT.zip"])
    server.breaks.clear()
    assert main(["EuroSAT", "--root", str(root)]) == 0
    assert server.starts("/EuroSAT.zip")[-1] == have


def test_part_of_another_file_is_not_continued(publish, root, server):
    """The server's file has changed since: its tag says so, and the transfer starts again."""
    publish("EuroSAT")
    (root / "downloads").mkdir(parents=True)
    (root / "downloads" / "EuroSAT.zip.part").write_bytes(b"old" * 10)
    (root / "downloads" / "EuroSAT.zip.part.tag").write_text('"old"')
    assert main(["EuroSAT", "--root", str(root)]) == 0


@pytest.mark.parametrize("junk", [b"x" * 10, b"x" * 10_000_000])
def test_part_without_a_tag_that_does_not_fit(publish, root, server, junk):
    publish("EuroSAT")
    (root / "downloads").mkdir(parents=True)
    (root / "downloads" / "EuroSAT.zip.part").write_bytes(junk)
    assert main(["EuroSAT", "--root", str(root)]) == 0
    assert (root / "eurosat" / "2750" / "Forest").is_dir()


def test_server_without_ranges(publish, root, server):
    publish("EuroSAT")
    server.ranges = False
    server.breaks["/EuroSAT.zip"] = 1
    assert main(["EuroSAT", "--root", str(root)]) == 0


def link(name, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def hostile_tar(kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for member in {
            "parent": [tarfile.TarInfo("../../outside.txt")],
            "absolute": [tarfile.TarInfo("/tmp/outside_of_datasets.txt")],
            "symlink": [link("dtd/images/x", tarfile.SYMTYPE)],
            "hardlink": [link("dtd/images/x", tarfile.LNKTYPE)],
            "device": [link("dtd/images/x", tarfile.CHRTYPE)],
        }[kind]:
            tar.addfile(member, io.BytesIO())
    return stream.getvalue()


def hostile_zip(kind):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("2750/Forest/a.jpg", jpeg(1))
        info = zipfile.ZipInfo(
            {
                "zip_parent": "2750/../../../outside.txt",
                "zip_absolute": "/tmp/outside_of_datasets.txt",
                "zip_backslash": "2750\\..\\..\\outside.txt",
                "zip_drive": "C:/outside.txt",
                "zip_link": "2750/link",
            }[kind]
        )
        if kind == "zip_link":
            info.external_attr = 0o120777 << 16
        archive.writestr(info, b"hostile")
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        "parent",
        "absolute",
        "symlink",
        "hardlink",
        "device",
        "zip_parent",
        "zip_absolute",
        "zip_backslash",
        "zip_drive",
        "zip_link",
    ],
)
def test_hostile_archive(kind, publish, root, server, tmp_path, monkeypatch, capsys):
    """Refused as a whole; nothing is written outside, nothing stays inside."""
    name, file = ("EuroSAT", "EuroSAT.zip") if kind.startswith("zip") else ("DescribableTextures", "dtd-r1.0.1.tar.gz")
    publish(name)
    content = hostile_zip(kind) if kind.startswith("zip") else hostile_tar(kind)
    server.files[f"/{file}"] = content
    cls = find_dataset(name)
    sources = [
        dataclasses.replace(s, checksum=f"md5:{hashlib.md5(content).hexdigest()}") if s.checksum else s for s in cls.sources
    ]
    monkeypatch.setattr(cls, "sources", tuple(sources))
    assert main([name, "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert file in error and "refused, because its member" in error
    assert not list(tmp_path.rglob("outside*")) and not os.path.exists("/tmp/outside_of_datasets.txt")
    assert not list(root.rglob("*.jpg")) and not list(root.rglob(".unpack*"))


@pytest.mark.parametrize(
    "content, words",
    [
        (as_zip({"pictures/a.jpg": b"x", "about.txt": b"x"}), "holds no 2750, but about.txt, pictures; is it the right"),
        (b"<html>log in first</html>", "neither a zip nor a tar file"),
        (as_zip({"2750/Forest/a.jpg": os.urandom(5000)})[:-200], "neither a zip nor a tar file"),
        (as_zip({"2750/Forest/a.jpg": b"abc" * 5000}).replace(b"abc", b"abd", 1), ""),
        (as_tar({"2750/Forest/a.jpg": os.urandom(50000)})[:-9000], "is damaged"),
    ],
)
def test_wrong_archive(content, words, publish, root, server, monkeypatch, capsys):
    """Another archive, a web page, half an archive: said, and nothing of it is left in the layout."""
    publish("EuroSAT")
    if not words:  # a flipped byte in a stored (not compressed) member: its CRC tells
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("2750/Forest/a.jpg", b"abc" * 5000)
        content, words = stream.getvalue().replace(b"abc", b"abd", 1), "is damaged"
    server.files["/EuroSAT.zip"] = content
    cls = find_dataset("EuroSAT")
    monkeypatch.setattr(cls, "sources", tuple(dataclasses.replace(s, checksum="") for s in cls.sources))
    assert main(["EuroSAT", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert "EuroSAT.zip" in error and words in error
    assert not (root / "eurosat" / "2750").exists() and not list(root.rglob(".unpack*"))


@pytest.mark.parametrize("top", ["", "EuroSAT/", "some/where/deep/", "./"])
def test_folder_above_may_be_called_anything(top, publish, root, server, monkeypatch, build):
    mini = publish("EuroSAT")
    server.files["/EuroSAT.zip"] = as_zip(under(top, tree(mini.folder, "2750")))
    cls = find_dataset("EuroSAT")
    monkeypatch.setattr(cls, "sources", tuple(dataclasses.replace(s, checksum="") for s in cls.sources))
    assert main(["EuroSAT", "--root", str(root)]) == 0
    assert build("EuroSAT", ROOT=str(root)).classnames == mini.classnames


def test_archive_that_is_already_there(publish, root, server, capsys):
    """Put into downloads by the user: used without asking the server, if its checksum is right."""
    publish("EuroSAT")
    content = server.files.pop("/EuroSAT.zip")
    (root / "downloads").mkdir(parents=True)
    archive = root / "downloads" / "EuroSAT.zip"
    archive.write_bytes(content + b"x")
    assert main(["EuroSAT", "--root", str(root)]) == 2
    assert f"{archive}: the checksum is" in capsys.readouterr().err and archive.exists()
    archive.write_bytes(content)
    assert main(["EuroSAT", "--root", str(root), "--keep-archives"]) == 0
    assert archive.exists() and not server.starts("/EuroSAT.zip")


def test_what_is_there_is_not_overwritten(publish, root, server):
    publish("DescribableTextures")
    own = root / "dtd" / "labels" / "train1.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert main(["dtd", "--root", str(root)]) == 0
    assert own.read_text() == "mine" and (root / "dtd" / "images" / "banded").is_dir()


@pytest.mark.parametrize("zip_name, top", [("stanford_cars.zip", "stanford_cars/"), ("StanfordCars.zip", "")])
def test_hub_serves_what_is_dead_elsewhere(zip_name, top, publish, root, server, drive, build):
    mini = publish("StanfordCars")
    drive.clear()  # the split file comes with the zip as well
    serve_on_hub(server, zip_name, as_zip(under(top, tree(mini.folder, "cars_train", "cars_test", mini.split_file))))
    assert main(["stanford_cars", "--root", str(root)]) == 0
    assert build("StanfordCars", ROOT=str(root)).classnames == mini.classnames


def test_hub_zip_with_a_wrong_checksum(publish, root, server, capsys):
    mini = publish("StanfordCars")
    serve_on_hub(server, "stanford_cars.zip", as_zip(tree(mini.folder, "cars_train")), sha256="0" * 64)
    assert main(["StanfordCars", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert "0" * 64 in error and "kaggle.com" in error and str(root / "stanford_cars" / "cars_train") in error
    assert not (root / "stanford_cars" / "cars_train").exists()


def test_dead_addresses(publish, root, server, drive, capsys):
    """Everything that was tried is listed, with the reason and what to do."""
    publish("EuroSAT")
    server.files.clear()
    drive.clear()
    assert main(["EuroSAT", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert "missing in" in error and "404" in error and "Too many users" in error and HUB_REPOSITORY in error
    assert f"EuroSAT.zip in {root / 'downloads'}" in error


def test_split_file_that_is_a_web_page(publish, root, server, drive, capsys):
    publish("EuroSAT")
    drive["1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"] = b"<html>sign in</html>"
    assert main(["EuroSAT", "--root", str(root)]) == 2
    assert "not valid JSON" in capsys.readouterr().err
    assert not (root / "eurosat" / "split_zhou_EuroSAT.json").exists()


def test_imagenet_asks_for_a_log_in(root, server, drive, capsys):
    drive["1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"] = b"n01440764 tench\n"
    assert main(["imagenet", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    for words in ("image-net.org", "ILSVRC2012_img_train.tar", "ILSVRC2012_devkit_t12.tar.gz", str(root / "imagenet" / "images")):
        assert words in error
    assert (root / "imagenet" / "classnames.txt").exists()


@pytest.fixture
def devkit(tmp_path):
    """The devkit's archive for the miniature: synset numbers are not in the order of the folders."""
    wnids = list(SYNSETS)
    synsets = struct_array(
        [(i + 1, wnid, name, 0) for i, (wnid, name) in enumerate(SYNSETS.items())],
        ("ILSVRC2012_ID", "WNID", "words", "num_children"),
    ).T
    stream = io.BytesIO()
    savemat(stream, {"synsets": synsets})
    truth = [wnids.index(wnid) + 1 for wnid in sorted(wnids) for _ in range(2)]
    return as_tar(
        under(
            "ILSVRC2012_devkit_t12/data/",
            {"meta.mat": stream.getvalue(), "ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, truth)).encode()},
        )
    )


@pytest.mark.parametrize("flat", [False, True])
def test_imagenet_archives_are_unpacked(flat, root, tmp_path, devkit, build, drive, server, monkeypatch):
    """From the log-in's archives, or from a flat val folder, to class folders; as the original in both cases."""
    mini = MINIATURES["ImageNet"](tmp_path / "original")
    images = root / "imagenet" / "images"
    images.mkdir(parents=True)
    inner = {f"{wnid}.tar": as_tar(tree(mini.images / "train" / wnid, "."), "") for wnid in SYNSETS}
    val = {os.path.basename(name): content for name, content in tree(mini.images, "val").items()}
    archives = {
        imagenet_archives.TRAIN: as_tar(inner, ""),
        imagenet_archives.DEVKIT: devkit,
        imagenet_archives.VAL: as_tar(val, ""),
    }
    if flat:
        del archives[imagenet_archives.VAL]
        (images / "val").mkdir()
        for name, content in val.items():
            (images / "val" / name).write_bytes(content)
    for name, content in archives.items():
        (images / name).write_bytes(content)
        monkeypatch.setitem(imagenet_archives.CHECKSUMS, name, f"md5:{hashlib.md5(content).hexdigest()}")
    drive["1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"] = (mini.folder / "classnames.txt").read_bytes()
    assert main(["ImageNet", "--root", str(root)]) == 0
    dataset, original = build("ImageNet", ROOT=str(root)), build("ImageNet", ROOT=str(tmp_path / "original"))
    assert np.all(
        [
            os.path.relpath(a.impath, root) == os.path.relpath(b.impath, tmp_path / "original")
            for a, b in zip(dataset.train_x + dataset.test, original.train_x + original.test, strict=True)
        ]
    )
    assert not list(images.rglob(".unpack*"))


def test_imagenet_archive_with_a_wrong_checksum(root, drive, server, capsys):
    images = root / "imagenet" / "images"
    images.mkdir(parents=True)
    (images / imagenet_archives.TRAIN).write_bytes(as_tar({}))
    assert main(["ImageNet", "--root", str(root)]) == 2
    assert "1d675b47d978889d74fa0da5fadfb00e" in capsys.readouterr().err
    assert not (images / "train").exists()


def test_variant_takes_class_names_from_imagenet(publish, root, drive):
    publish("ImageNetA")
    drive.clear()
    (root / "imagenet").mkdir(parents=True)
    (root / "imagenet" / "classnames.txt").write_text("n01440764 tench\n")
    assert main(["imagenet_a", "--root", str(root)]) == 0
    assert (root / "imagenet-adversarial" / "classnames.txt").read_text() == "n01440764 tench\n"


def test_folder_under_another_name_is_not_fetched_again(publish, root, server, capsys):
    publish("Food101")
    (root / "Food_101" / "images").mkdir(parents=True)
    assert main(["food101", "--root", str(root)]) == 2
    assert f"{root / 'Food_101'} looks like it: rename that folder to food-101" in capsys.readouterr().err
    assert not server.requests


def test_built_in_sets_need_no_download(root, capsys):
    assert main(["digits", "--root", str(root)]) == 0
    assert "Digits: nothing to download" in capsys.readouterr().out and not root.exists()


def test_interrupted(publish, root, server, monkeypatch, capsys):
    """Ctrl-C in the middle: no traceback, and the next call goes on from there."""
    publish("EuroSAT")
    server.breaks["/EuroSAT.zip"] = 1

    def press(seconds):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch.time, "sleep", press)
        assert main(["EuroSAT", "--root", str(root)]) == 130
    have = (root / "downloads" / "EuroSAT.zip.part").stat().st_size
    assert main(["EuroSAT", "--root", str(root)]) == 0
    assert server.starts("/EuroSAT.zip")[-1] == have > 0


def test_folder_that_cannot_be_written(publish, root, server, capsys):
    publish("EuroSAT")
    root.write_text("a file where the data folder should be")
    assert main(["EuroSAT", "--root", str(root)]) == 2
    assert str(root) in capsys.readouterr().err
