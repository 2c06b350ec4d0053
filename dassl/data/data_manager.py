"""Builds the dataset, the transforms and the data loaders of a run."""

import resource
from contextlib import nullcontext

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms as T

from basics.parent import EndWithMe

from ..utils import UserError, kept_rng, parallel, read_image, seed_rng
from .datasets import DATASET_REGISTRY, build_dataset
from .readable import check_readable
from .samplers import EpochSampler, SampleIndex, SharedBatchSampler, build_sampler
from .transforms import INTERPOLATION_MODES, batches, build_transform


class _Loader(DataLoader):
    """A DataLoader that can be iterated anew while another iteration is under way, kept workers or not.

    Its workers end with this process. PyTorch's own stay for ever where it is killed just when they start: they ask too late
    who their parent is.
    """

    def __iter__(self):
        kept = self._iterator
        self.worker_init_fn = EndWithMe(getattr(self.worker_init_fn, "then", self.worker_init_fn))
        if kept is not None and kept._rcvd_idx < kept._send_idx:
            batches = self._get_iterator()  # PyTorch would take the kept workers away from the other iteration
        else:
            batches = super().__iter__()
        return self.batch_sampler.marked(batches) if isinstance(self.batch_sampler, SharedBatchSampler) else batches


def build_data_loader(
    cfg,
    sampler_type="SequentialSampler",
    data_source=None,
    batch_size=64,
    n_domain=0,
    n_ins=2,
    tfm=None,
    is_train=True,
    dataset_wrapper=None,
    share=False,
    drop_last=True,
):
    """Return a loader of batches of ``data_source`` (a list of Datum).

    In training, an incomplete last batch is dropped, unless it is the only one or ``drop_last`` is False. UserError when there
    is no batch.
    ``share``: where several processes make one run, each loads its part of each batch.
    """
    if not data_source:
        raise UserError(f"dataset {cfg.DATASET.NAME}: the {'training' if is_train else 'test'} split has no images")
    n_data = len(data_source)
    sampler = build_sampler(sampler_type, cfg, data_source, batch_size, n_domain, n_ins)
    batching = {"batch_size": batch_size, "sampler": sampler, "drop_last": drop_last and is_train and n_data >= batch_size}
    if share and parallel.world_size() > 1:
        batching = {"batch_sampler": SharedBatchSampler(**batching)}
    _check_limit_of_files(cfg.DATALOADER.NUM_WORKERS)
    loader = _Loader(
        (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train),
        **batching,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        generator=torch.Generator(),  # its own generator: loading data doesn't change the random state that the model draws from
        # starting workers takes longer than an epoch of a few-shot set
        persistent_workers=is_train and cfg.DATALOADER.NUM_WORKERS > 0 and isinstance(sampler, EpochSampler),
    )
    if len(loader) == 0:
        raise UserError(
            f"{n_data} training images give no batch of {batch_size} with {sampler_type}: "
            "choose a smaller DATALOADER.TRAIN_X.BATCH_SIZE"
        )
    if is_train and n_data < batch_size:
        print(f"Note: the batch size {batch_size} exceeds the {n_data} training images; they make one batch")
    return loader


def _check_limit_of_files(workers):
    """UserError where the system allows too few open files: PyTorch's workers then wait for each other for ever."""
    if workers:
        allowed, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0], 32 + 16 * workers
        if 0 <= allowed < needed:
            raise UserError(
                f"{workers} loading workers need up to {needed} open files, but this process may have {allowed} (ulimit -n): "
                "raise the limit, or set DATALOADER.NUM_WORKERS 0"
            )


class Unread:
    """Stands for the test images of a run that must not see them: whoever asks for one gets a UserError."""

    def __iter__(self):
        raise UserError(
            "DATASET.HELD_OUT: settings are being chosen, and no test image is read; leave out the setting that asks for "
            "them, such as a search on test images"
        )

    __len__ = __iter__


class DataManager:
    """The dataset of ``cfg`` with its loaders ``train_loader_x``, ``train_loader_u``, ``val_loader``, ``test_loader``.

    ``train_loader_u`` and ``val_loader`` are None where the dataset has no such split.
    """

    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
        with parallel.main_first():  # it may write splits and samples
            dataset = build_dataset(cfg)
            if cfg.DATASET.HELD_OUT and not getattr(dataset, "held_out", ()):
                raise UserError(
                    f"DATASET.HELD_OUT: the dataset {cfg.DATASET.NAME} has a class of its own that doesn't know this key"
                )
            if cfg.DATASET.MULTI_LABEL != getattr(dataset, "several_labels", False):
                raise UserError(
                    f"DATASET.MULTI_LABEL True: an image of {cfg.DATASET.NAME} has one label; leave the key out"
                    if cfg.DATASET.MULTI_LABEL
                    else f"{cfg.DATASET.NAME}: its images may have several labels; set DATASET.MULTI_LABEL True"
                )
            if parallel.is_main():
                check_readable(dataset, cfg, turns_photos(cfg))
        tfm_train = _transform(cfg, custom_tfm_train, is_train=True)
        tfm_test = _transform(cfg, custom_tfm_test, is_train=False)

        def train_loader(data, settings):
            return build_data_loader(
                cfg, settings.SAMPLER, data, settings.BATCH_SIZE, settings.N_DOMAIN, settings.N_INS, tfm_train, True,
                dataset_wrapper, share=True, drop_last=settings.get("DROP_LAST", True),
            )  # fmt: skip

        def eval_loader(data):
            test = cfg.DATALOADER.TEST
            return build_data_loader(
                cfg, test.SAMPLER, data, test.BATCH_SIZE, tfm=tfm_test, is_train=False, dataset_wrapper=dataset_wrapper,
                share=True,
            )  # fmt: skip

        loader = cfg.DATALOADER
        self.train_loader_x = train_loader(dataset.train_x, loader.TRAIN_X)
        self.train_loader_u = None
        if dataset.train_u:
            self.train_loader_u = train_loader(dataset.train_u, loader.TRAIN_X if loader.TRAIN_U.SAME_AS_X else loader.TRAIN_U)
        self.val_loader = eval_loader(dataset.val) if dataset.val else None
        self.test_loader = Unread() if cfg.DATASET.HELD_OUT else eval_loader(dataset.test)

        self.dataset = dataset
        self._num_classes = dataset.num_classes
        for name in ("SOURCE_DOMAINS", "TARGET_DOMAINS"):
            if cfg.DATASET[name] and not getattr(dataset, "domains", ()):
                print(f"WARNING: DATASET.{name} {cfg.DATASET[name]} has no effect: {cfg.DATASET.NAME} names no domains")
        if dataset.num_classes == 1:
            print(f"WARNING: there is one class only ({dataset.classnames[0]}): every prediction is right")
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self):
        return self._num_classes

    @property
    def num_source_domains(self):
        return self._num_source_domains

    @property
    def lab2cname(self):
        """Class names by label."""
        return self._lab2cname

    def show_dataset_summary(self, cfg):
        """Print the table of the dataset's name and sizes."""
        rows = [["Dataset", cfg.DATASET.NAME]]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(["Source", cfg.DATASET.SOURCE_DOMAINS])
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(["Target", cfg.DATASET.TARGET_DOMAINS])
        rows.append(["# classes", f"{self.num_classes:,}"])
        for split in ("train_x", "train_u", "val", "test"):
            data = getattr(self.dataset, split)
            if data:
                rows.append([f"# {split}", f"{len(data):,}"])
        print(_table(rows))


def _table(rows):
    """Two columns of text as tabulate prints them, which takes a while to import."""
    if not all(text.isascii() for row in rows for text in row):
        from tabulate import tabulate

        return tabulate(rows)
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    line = f"{'-' * first}  {'-' * second}"
    return "\n".join([line, *(f"{a:<{first}}  {b}" for a, b in rows), line])


def _transform(cfg, custom, is_train):
    if custom is None:
        return build_transform(cfg, is_train=is_train)
    print(f"* Using custom transform for {'training' if is_train else 'testing'}")
    return custom


def target_of(item):
    """``Datum.target``; of other people's items, which have none, their label."""
    return item.target if hasattr(item, "target") else item.label


def turns_photos(cfg):
    """Whether this run's images are turned as their EXIF orientation says."""
    choice, name = cfg.INPUT.EXIF_ORIENTATION, cfg.DATASET.NAME
    if choice != "auto":
        return choice == "apply"
    return name in DATASET_REGISTRY and getattr(DATASET_REGISTRY.get(name), "photos_upright", False)


class DatasetWrapper(TorchDataset):
    """Loads and transforms the images of a list of Datum.

    An item is a dictionary with ``label``, ``domain``, ``impath``, ``index`` and ``img`` (a list of K views where
    DATALOADER.K_TRANSFORMS = K > 1 in training; with several transforms also ``img2``, ``img3`` …), and with
    DATALOADER.RETURN_IMG0 the unaugmented ``img0``. Asked for a ``SampleIndex``, the augmentation is a function of it;
    Python's, NumPy's and PyTorch's random states are left as they were.
    """

    def __init__(self, cfg, data_source, transform=None, is_train=False):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.upright = turns_photos(cfg)
        self._decoded = {}  # path → image; test images are read once, so they aren't kept
        self._room = cfg.DATALOADER.DECODED_MB * 2**20 if is_train else 0
        if self.k_tfm > 1 and transform is None:
            raise UserError(f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform (INPUT.NO_TRANSFORM)")

        to_tensor = [T.Resize(cfg.INPUT.SIZE, interpolation=INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            to_tensor.append(T.Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(to_tensor)

    def __len__(self):
        return len(self.data_source)

    def __getitem__(self, idx):
        with kept_rng() if isinstance(idx, SampleIndex) else nullcontext():
            return self._item(idx, self.transform)

    def __getitems__(self, indices):
        """Items of a batch, the same as one by one; a DataLoader asks for them. Random states are saved once for all."""
        kinds = {isinstance(idx, SampleIndex) for idx in indices}
        if len(kinds) != 1 or type(self) is not DatasetWrapper:  # another class may have steps of its own
            return [self[idx] for idx in indices]
        transform, finish = batches.split(self.transform) if self.k_tfm == 1 else (self.transform, None)
        with kept_rng() if True in kinds else nullcontext():
            items = [self._item(idx, transform) for idx in indices]
        if finish:
            for item, img in zip(items, finish([item["img"] for item in items]), strict=True):
                item["img"] = img
        return items

    def _item(self, idx, transform):
        item = self.data_source[idx]
        output = {"label": target_of(item), "domain": item.domain, "impath": item.impath, "index": int(idx)}
        img0 = self._read(item.impath)
        if isinstance(idx, SampleIndex):
            seed_rng(idx.rng_seed)
        output.update(self._views(img0, transform))
        if self.return_img0:
            output["img0"] = self.to_tensor(img0)
        return output

    def _read(self, path):
        kept = self._decoded.get(path)
        if kept is not None:
            return kept.copy()  # a transform may write to it
        img = read_image(path, self.upright)
        size = img.width * img.height * 3
        if size <= self._room:
            self._room -= size
            self._decoded[path] = img.copy()
        return img

    def _views(self, img0, transform):
        if transform is None:
            return {"img": img0}
        if not isinstance(transform, (list, tuple)):
            return {"img": self._transform_image(transform, img0)}
        keys = ["img"] + [f"img{i}" for i in range(2, len(transform) + 1)]
        return {key: self._transform_image(tfm, img0) for key, tfm in zip(keys, transform)}

    def _transform_image(self, tfm, img0):
        views = [tfm(img0) for _ in range(self.k_tfm)]
        return views[0] if self.k_tfm == 1 else views
