"""How many processors this process may use."""

import math
import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def usable_processors() -> int:
    """Processors of this process's affinity, or fewer where a control group limits its time; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    limit = _quota(_CGROUP_V2, _CGROUP_V1)
    return allowed if limit is None else max(1, min(allowed, limit))


def _quota(unified: Path, legacy: Path) -> int | None:
    """Processors' worth of time that the control group may take, rounded up; None without a limit."""
    try:
        if unified.exists():
            quota, period = unified.read_text().split()
        else:
            quota = (legacy / "cpu.cfs_quota_us").read_text().strip()
            period = (legacy / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return None  # no control groups, or none that we know
