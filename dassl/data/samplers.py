"""Samplers whose order is a function of (seed, epoch), and the index type that carries the epoch to the transforms."""

import random
from collections import defaultdict

import torch
from torch.utils.data import BatchSampler, Sampler, SequentialSampler

from ..config.defaults import SAMPLERS
from ..utils import UserError, check_availability, hash_seed, parallel


class SampleIndex(int):
    """The index of a sample, together with the stream of randomness for its augmentation.

    A dataset uses it like any integer; ``DatasetWrapper`` draws its transforms from ``rng_seed``, which is a function
    of (seed, epoch, index). It survives the way to a worker process.
    """

    def __new__(cls, index, seed=0, epoch=0, turn=0):
        self = super().__new__(cls, index)
        self.seed, self.epoch, self.turn = seed, epoch, turn
        return self

    @property
    def rng_seed(self):
        """The seed of this sample's augmentation in this epoch."""
        return hash_seed("augment", self.seed, self.epoch, self.turn, int(self))


class EpochSampler(Sampler):
    """A sampler whose order is drawn anew for each epoch, from (seed, epoch) alone.

    ``set_epoch`` is called by the trainer at the start of an epoch. Iterating again within one epoch gives the order
    of a further turn; without any ``set_epoch``, each iteration is such a turn.
    """

    def __init__(self, data_source, seed=0):
        self.data_source = data_source
        self.seed = seed
        self.epoch = 0
        self._next_turn = 0

    def set_epoch(self, epoch):
        """Start ``epoch``, counted from 0."""
        self.epoch = epoch
        self._next_turn = 0

    def draw(self, rng):
        """Return the list of indices of one epoch; all randomness comes from ``rng`` (a random.Random)."""
        raise NotImplementedError

    def order(self, turn):
        """Return the list of indices of a turn of the current epoch."""
        return self.draw(random.Random(hash_seed("order", self.seed, self.epoch, turn)))

    def __iter__(self):
        turn = self._next_turn
        self._next_turn += 1
        return iter([SampleIndex(i, self.seed, self.epoch, turn) for i in self.order(turn)])

    def __len__(self):
        return len(self.order(max(self._next_turn - 1, 0)))


class RandomSampler(EpochSampler):
    """Every sample once, in random order."""

    def draw(self, rng):
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        return torch.randperm(len(self.data_source), generator=generator).tolist()

    def __len__(self):
        return len(self.data_source)


class _GroupSampler(EpochSampler):
    """Batches that hold the same number of samples of each of ``n_groups`` groups."""

    def __init__(self, data_source, batch_size, n_groups, group_of, kind, seed):
        super().__init__(data_source, seed)
        self.groups = defaultdict(list)
        for index, item in enumerate(data_source):
            self.groups[group_of(item)].append(index)
        n_groups = n_groups if n_groups and n_groups > 0 else len(self.groups)
        if n_groups > len(self.groups):
            raise UserError(f"a batch should have {n_groups} {kind}, but the training data have {len(self.groups)}")
        if batch_size % n_groups:
            raise UserError(f"the batch size {batch_size} is not a multiple of the {n_groups} {kind} in a batch")
        self.batch_size = batch_size
        self.n_groups = n_groups
        self.n_per_group = batch_size // n_groups


class RandomDomainSampler(_GroupSampler):
    """Batches of ``n_domain`` random domains (0: all), with equally many images of each."""

    def __init__(self, data_source, batch_size, n_domain, seed=0):
        super().__init__(data_source, batch_size, n_domain, lambda item: item.domain, "domains", seed)

    def choose(self, rng):
        """Return the domains of the next batch."""
        return rng.sample(list(self.groups), self.n_groups)

    def draw(self, rng):
        pools = {domain: rng.sample(indices, len(indices)) for domain, indices in self.groups.items()}
        order = []
        # ends with the batch after which some domain has too few images left
        while all(len(pool) >= self.n_per_group for pool in pools.values()):
            for domain in self.choose(rng):
                pool = pools[domain]
                order += pool[-self.n_per_group :]
                del pool[-self.n_per_group :]
        return order


class SeqDomainSampler(RandomDomainSampler):
    """Batches of all domains in sorted order, with equally many random images of each."""

    def __init__(self, data_source, batch_size, seed=0):
        super().__init__(data_source, batch_size, 0, seed)

    def choose(self, rng):
        """Return the domains of the next batch."""
        return sorted(self.groups)


class RandomClassSampler(EpochSampler):
    """Batches of batch_size // n_ins random classes, with ``n_ins`` images of each (repeated where there are fewer)."""

    def __init__(self, data_source, batch_size, n_ins, seed=0):
        super().__init__(data_source, seed)
        if batch_size < n_ins:
            raise UserError(f"the batch size {batch_size} is less than N_INS = {n_ins} images of a class in a batch")
        self.classes = defaultdict(list)
        for index, item in enumerate(data_source):
            self.classes[item.label].append(index)
        self.n_ins = n_ins
        self.n_cls = batch_size // n_ins
        if len(self.classes) < self.n_cls:
            raise UserError(
                f"a batch of {batch_size} with N_INS = {n_ins} needs {self.n_cls} classes, "
                f"but the training data have {len(self.classes)}"
            )

    def draw(self, rng):
        chunks = {}
        for label, indices in self.classes.items():
            missing = self.n_ins - len(indices)
            pool = rng.sample(indices, len(indices)) if missing <= 0 else rng.choices(indices, k=self.n_ins)
            chunks[label] = [pool[i : i + self.n_ins] for i in range(0, len(pool) - self.n_ins + 1, self.n_ins)]
        order, left = [], list(chunks)
        while len(left) >= self.n_cls:
            for label in rng.sample(left, self.n_cls):
                order += chunks[label].pop(0)
                if not chunks[label]:
                    left.remove(label)
        return order


def build_sampler(sampler_type, cfg=None, data_source=None, batch_size=32, n_domain=0, n_ins=16):
    """Return the sampler called ``sampler_type`` over ``data_source``, a list of Datum; ``cfg.SEED`` seeds it."""
    check_availability(sampler_type, SAMPLERS)
    seeded = cfg is not None and cfg.SEED >= 0
    seed = cfg.SEED if seeded else parallel.from_main(random.SystemRandom().getrandbits(32))
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source, seed)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain, seed)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data_source, batch_size, seed)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(data_source, batch_size, n_ins, seed)
    return SequentialSampler(data_source)


class SharedBatchSampler(BatchSampler):
    """This process' part of each batch. Where a batch has fewer samples than there are processes, the processes left over
    get its first sample as a stand-in."""

    def __iter__(self):
        for batch in super().__iter__():
            yield batch[parallel.own_slice(len(batch))] or batch[:1]

    def marked(self, batches):
        """The loader's ``batches``, each with the number of samples that all processes' parts have, ``whole_size``."""
        for batch, size in zip(batches, self._whole_sizes(), strict=True):
            yield {**batch, "whole_size": size}

    def _whole_sizes(self):
        left = len(self.sampler)
        for _ in range(len(self)):
            yield min(left, self.batch_size)
            left -= self.batch_size


def sampler_of(loader):
    """The sampler that decides the order of a data loader's samples."""
    batches = getattr(loader, "batch_sampler", None)
    return batches.sampler if isinstance(batches, SharedBatchSampler) else getattr(loader, "sampler", None)


def set_loader_epoch(loader, epoch):
    """Let a data loader deliver the batches of ``epoch`` (counted from 0) next."""
    sampler = sampler_of(loader)
    if isinstance(sampler, EpochSampler):
        sampler.set_epoch(epoch)
        # for datasets that draw from the worker's global state rather than from their SampleIndex
        loader.generator.manual_seed(hash_seed("workers", sampler.seed, epoch))
