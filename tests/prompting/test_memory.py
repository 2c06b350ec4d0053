"""The count of live tensors that benchmarks/text_memory.py reports, and what checkpointing saves by it."""

import torch

from benchmarks.measure import LiveBytes
from benchmarks.text_memory import main


def test_live_bytes_counts_what_is_alive_once():
    x = torch.empty(1000, device="meta")
    with LiveBytes([x]) as live:
        y = x + 1  # 4,000 bytes
        view = y[10:]  # the same storage
        z = y * 2
        assert live.now == 8000
        del y, z
        assert live.now == 4000  # the view keeps y's
        del view
        w = x[:10]  # x isn't counted
        assert (live.now, live.highest) == (0, 8000)
    del w


def test_checkpointing_saves_most_of_the_activations(capsys):
    kept, recomputed = (main(["--classes", "40", "--experts", "3", *extra]) for extra in ([], ["--checkpointing"]))
    assert kept["tokens"] == recomputed["tokens"] < kept["plain_tokens"] / 10
    assert recomputed["after_forward_gb"] < kept["after_forward_gb"] / 5
    assert recomputed["highest_gb"] < kept["highest_gb"] / 3
    assert "token positions" in capsys.readouterr().out
