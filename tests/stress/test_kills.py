"""A few of the kills of `python -m tests.stress.kills` (make stress: a hundred, of every method)."""

from tests.stress.kills import Campaign


def test_killed_runs_end_like_undisturbed_ones(tmp_path):
    campaign = Campaign(tmp_path, seed=1, methods=("CoOp, cached views", "MoCoOp")).run(kills=5, seconds=200)
    assert campaign.failures == []
    assert campaign.kills.total() >= 2 and len(campaign.where) >= 2


def test_workers_threads_and_kept_views_may_change_meanwhile(tmp_path):
    campaign = Campaign(tmp_path, seed=3, methods=("CoOp", "CoOp, cached views"), changes=True).run(kills=4, seconds=200)
    assert campaign.failures == []
    assert campaign.kills.total() >= 2
