"""Errors, files, logging, meters, registries, random state, and reading and writing of checkpoints."""

from basics import DamagedFileError, UserError, printable

from .logger import *
from .meters import *
from .registry import *
from .rng import *
from .safe_pickle import *
from .tools import *
from .torchtools import *
