import pytest

from gatecast.devices.processors import _quota, usable_processors


def test_a_process_may_use_a_processor():
    assert usable_processors() >= 1


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1)]
)
def test_the_quota_of_a_unified_group_is_rounded_up(tmp_path, text, expected):
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert _quota(tmp_path / "cpu.max", tmp_path / "none") == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", None), ("300000", 3), ("nonsense", None)])
def test_the_quota_of_a_legacy_group(tmp_path, quota, expected):
    (tmp_path / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert _quota(tmp_path / "none", tmp_path) == expected


def test_no_control_group_is_no_limit(tmp_path):
    assert _quota(tmp_path / "none", tmp_path / "nor here") is None
