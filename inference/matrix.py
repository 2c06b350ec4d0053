"""Class matrices that ``inference.distil`` writes: read, checked, and used in place of a run's router and prompts."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basics import DamagedFileError, UserError

from .predictor import Predictor
from .run import read_run

FORMAT = "mocoop matrix 1"


@dataclass(frozen=True)
class Matrix:
    """classes: [C, E] float32 tensor; classnames: [C]; scale: factor on the products; fingerprint: of the run that it was made
    from; file: where it was read."""

    classes: Any
    classnames: list[str]
    scale: float
    fingerprint: str
    file: str

    def logits(self, features: Any) -> Any:
        """[B, C] of unit image features [B, E]."""
        return self.scale * features.float() @ self.classes.to(features.device).t()


def read_matrix(file: str | Path) -> Matrix:
    """The matrix in a file.

    Raises:
        UserError: no such file; DamagedFileError: not a whole file of distil's.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(file):
        raise UserError(f"{file}: no such file; python -m inference.distil RUN --out FOLDER writes FOLDER/<classes>.safetensors")
    try:
        with safe_open(str(file), "pt") as content:
            about = content.metadata() or {}
            classes = content.get_tensor("classes")
        said = {name: json.loads(about[name]) for name in ("format", "classnames", "scale", "fingerprint")}
    except (SafetensorError, KeyError, ValueError) as e:
        raise DamagedFileError(f"{file}: damaged, or not written by this version's inference.distil ({e})") from e
    if said.pop("format") != FORMAT or classes.ndim != 2 or len(classes) != len(said["classnames"]):
        raise DamagedFileError(f"{file}: not in the form that inference.distil writes ({FORMAT})")
    return Matrix(classes.float(), file=str(file), **said)


class MatrixPredictor(Predictor):
    """The class matrix of a finished run in place of its router and prompts: no experts, and probabilities of its own.

    Args:
        run: folder of the run that the matrix was made from.
        matrix: among whose classes is chosen.
        overrides: as of ``Predictor``.

    Raises:
        UserError: as ``Predictor``, and for the matrix of another run.
    """

    def __init__(self, run: str | Path, matrix: Matrix, overrides: Sequence[Any] = ()) -> None:
        if matrix.fingerprint != read_run(run).get("fingerprint"):
            raise UserError(f"{matrix.file} was not made from {run}: python -m inference.distil {run} writes that run's own")
        super().__init__(run, matrix.classnames, overrides=overrides)
        self.matrix, self.temperature = matrix, 1.0  # the run's temperature was fitted for its own logits
        self.trainer.explained = self._explained

    def _explained(self, images):
        """Logits [B, C] of pixels [B, 3, R, R]; nothing is said of the images."""
        return self.matrix.logits(self.trainer.batch_features(images)), [{}] * len(images)
