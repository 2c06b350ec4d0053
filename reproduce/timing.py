"""Table 6's times as a job of the grid: `python -m benchmarks.inference_time` with a dataset's numbers."""

import json
from dataclasses import dataclass
from pathlib import Path

from basics import home
from reproduce import facts, processes

BATCH = 100  # images, as in the paper


@dataclass(frozen=True)
class Timing:
    """One call of the benchmark; on its own machine while it lasts, or the times mean nothing."""

    dataset: str
    device: str = "cpu"
    alone = True
    training = None

    @property
    def label(self):
        return f"inference time {self.dataset} {self.device}"

    def directory(self, out):
        return Path(out) / "inference_time" / self.dataset / self.device

    def result(self, out):
        """The benchmark's rows, or None."""
        try:
            return {"rows": json.loads((self.directory(out) / "times.json").read_text(encoding="utf-8"))}
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def command(self, data, out):
        command = [
            *processes.python("benchmarks.inference_time"), "--classes", str(facts.base_classes(self.dataset) or 50),
            "--batch-sizes", str(BATCH), "--device", self.device, "--json", str(self.directory(out) / "times.json"),
        ]  # fmt: skip
        templates = home.find(f"templates/{self.dataset}.txt")
        if templates.is_file():
            command += ["--templates", str(templates)]
        if facts.is_builtin(self.dataset):
            command += ["--backbone", "models/builtin"]
        return command


def seconds_a_batch(out, dataset, trainer):
    """Seconds for a batch of 100 images, on a GPU if that was measured; None if nothing was."""
    for device in ("cuda", "cpu"):
        result = Timing(dataset, device).result(out)
        for row in result["rows"] if result else ():
            if row["method"] == trainer:
                return BATCH * row["seconds_per_image"]
    return None
