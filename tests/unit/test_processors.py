"""How many processors a process may use: its machine's, and the limits of its control groups."""

from __future__ import annotations

import os

import pytest
from kong_pdk import processors


@pytest.fixture(autouse=True)
def _eight_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("files", "count"),
    [
        pytest.param({}, 8, id="no control groups"),
        pytest.param({"proc/self/cgroup": "0::/"}, 8, id="no limit"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8, id="max"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2, id="two"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2, id="one and a half"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1, id="a tenth"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8, id="too many"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/kong.slice/kong.service\n",
                "sys/fs/cgroup/kong.slice/cpu.max": "300000 100000",
                "sys/fs/cgroup/kong.slice/kong.service/cpu.max": "max 100000",
            },
            3,
            id="the limit of a group around",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/docker/of-the-host\n", "sys/fs/cgroup/cpu.max": "100000 50000"},
            2,
            id="a path of the host",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/docker/x\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3,
            id="version 1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
            id="version 1 without a limit",
        ),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000 0"}, 8, id="nonsense"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "x"}, 8, id="more nonsense"),
        pytest.param({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/cpu.max": "100000 100000"}, 8, id="no path"),
    ],
)
def test_limits_of_control_groups(files, count, tmp_path):
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert processors.count(tmp_path) == count


def test_this_machine():
    assert processors.count() >= 1
