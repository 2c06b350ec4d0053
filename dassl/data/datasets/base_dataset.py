"""The class of a labelled image, and the base class of all datasets."""

import os.path as osp
import random
import tarfile
import zipfile
from collections import defaultdict
from numbers import Integral

from basics import UserError, mkdir_if_missing, printable


class Datum:
    """A labelled image: ``impath`` (path), ``label`` (int), ``domain`` (int), ``classname`` (str)."""

    def __init__(self, impath="", label=0, domain=0, classname=""):
        if not isinstance(impath, str):
            raise TypeError(f"impath is a path, not {impath!r}")
        if not osp.isfile(impath):
            raise UserError(f"image not found: {impath}; check DATASET.ROOT (--root) and that the dataset is complete")
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self):
        return self._impath

    @property
    def label(self):
        return self._label

    @property
    def target(self):
        """What a batch has as ``label``: an integer, or [C] numbers where images have several labels."""
        return self.label

    @property
    def domain(self):
        return self._domain

    @property
    def classname(self):
        return self._classname

    def __repr__(self):
        return f"Datum({self._impath!r}, label={self._label}, domain={self._domain}, classname={self._classname!r})"


class DatasetBase:
    """A dataset: lists of Datum ``train_x``, ``train_u`` (unlabelled, optional), ``val`` (optional) and ``test``.

    ``num_classes`` is the highest training label + 1; ``lab2cname`` maps labels to class names; ``classnames`` lists
    them in label order.
    """

    dataset_dir = ""  # folder of the dataset within DATASET.ROOT
    domains = []  # names of all domains
    several_labels = False  # an image may have any number of labels (DATASET.MULTI_LABEL): Datums have a ``target`` [C]
    photos_upright = False  # turn images as their EXIF orientation says, where INPUT.EXIF_ORIENTATION is auto

    def __init__(self, train_x=None, train_u=None, val=None, test=None):
        if not train_x:
            raise UserError(f"dataset {type(self).__name__}: there are no training images")
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        self._check_labels()
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)
        for name in self._classnames:
            if printable(name) != name or "\n" in name or "\t" in name:
                raise UserError(f"dataset {type(self).__name__}: control character in the class name {name!r}; rename it")

    def _check_labels(self):
        """Raise UserError unless labels run from 0 without a gap in training, and mean the same everywhere else."""
        where = f"dataset {type(self).__name__}: "
        names = {}
        for item in self._train_x:
            self._check_name(names, item, "training", where)
        odd = next((label for label in names if isinstance(label, bool) or not isinstance(label, Integral)), None)
        if odd is not None:
            raise UserError(f"{where}labels are whole numbers from 0, but there is {odd!r} ({names[odd]!r})")
        found = sorted(names)
        gap = next((label for label in range(len(found)) if label not in names), None)
        if gap is not None:
            shown = ", ".join(map(str, found[:6])) + (f", … {found[-1]}" if len(found) > 6 else "")
            raise UserError(
                f"{where}labels of the training images must run from 0 without a gap, but are {shown}: none has label {gap}"
            )
        for part, data in (("validation", self._val), ("test", self._test)):
            for item in data or ():
                if item.label not in names:
                    raise UserError(f"{where}a {part} image has label {item.label!r}, which no training image has: {item.impath}")
                self._check_name(names, item, part, where)

    @staticmethod
    def _check_name(names, item, part, where):
        known = names.setdefault(item.label, item.classname)
        if known != item.classname:
            raise UserError(
                f"{where}label {item.label} is called {known!r}, but {item.classname!r} for the {part} image {item.impath}"
            )

    @property
    def train_x(self):
        return self._train_x

    @property
    def train_u(self):
        return self._train_u

    @property
    def val(self):
        return self._val

    @property
    def test(self):
        return self._test

    @property
    def lab2cname(self):
        return self._lab2cname

    @property
    def classnames(self):
        return self._classnames

    @property
    def num_classes(self):
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source):
        """Return the highest label + 1."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source):
        """Return ({label: class name}, [class names in label order])."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def check_input_domains(self, source_domains, target_domains):
        """Raise UserError unless all are domains of this dataset."""
        self.is_input_domain_valid(source_domains)
        self.is_input_domain_valid(target_domains)

    def is_input_domain_valid(self, input_domains):
        """Raise UserError unless all are domains of this dataset."""
        for domain in input_domains:
            if domain not in self.domains:
                known = ", ".join(self.domains)
                raise UserError(f'"{domain}" is not a domain of {type(self).__name__}; its domains: {known}')

    def download_data(self, url, dst, from_gdrive=True):
        """Download an archive (from Google Drive, or by ``download_url``) and unpack it beside itself."""
        from ...utils import download_url

        mkdir_if_missing(osp.dirname(dst))
        if from_gdrive:
            import gdown

            if gdown.download(url, dst, quiet=False) is None:
                raise UserError(f"cannot download {url}; download it by other means and put it at {dst}")
        else:
            download_url(url, dst)
        print("Extracting file ...")
        _extract(dst, osp.dirname(dst))
        print(f"File extracted to {osp.dirname(dst)}")

    def generate_fewshot_dataset(self, *data_sources, num_shots=-1, repeat=False):
        """Return each list of Datum cut down to ``num_shots`` random ones of each class (below 1: as it is).

        A class with fewer gives all it has, or with ``repeat`` that many drawn with replacement. The draw is
        Python's global ``random``, classes in the order in which they first occur.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        output = []
        for data_source in data_sources:
            dataset = []
            for items in self.split_dataset_by_label(data_source).values():
                if len(items) >= num_shots:
                    dataset += random.sample(items, num_shots)
                else:
                    dataset += random.choices(items, k=num_shots) if repeat else items
            output.append(dataset)
        return output[0] if len(output) == 1 else output

    @staticmethod
    def split_dataset_by_label(data_source):
        """Return {label: [Datum, …]}, in the order in which the labels first occur."""
        output = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    @staticmethod
    def split_dataset_by_domain(data_source):
        """Return {domain: [Datum, …]}."""
        output = defaultdict(list)
        for item in data_source:
            output[item.domain].append(item)
        return output


def _extract(archive, folder):
    """Unpack a tar or zip file; UserError when it is damaged or a member would land outside ``folder``."""
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            return
        with zipfile.ZipFile(archive) as file:
            root = osp.realpath(folder)
            for name in file.namelist():
                if osp.commonpath([root, osp.realpath(osp.join(root, name))]) != root:
                    raise UserError(f"{archive}: refused, its member {name} would be written outside {folder}")
            file.extractall(folder)
    except tarfile.FilterError as e:
        raise UserError(f"{archive}: refused, {e}") from e
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as e:
        raise UserError(f"{archive}: damaged, or not an archive ({e}); delete it and download it again") from e
