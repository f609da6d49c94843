"""Whether the kernel has killed a process for its memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from kong_pdk.server.workers.memory_kills import MemoryKills


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("sys/fs/cgroup/memory.events", "low 0\nhigh 0\nmax 41\noom 3\n"),
        ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"),
    ],
    ids=["version 2", "version 1"],
)
def test_a_kill_is_new_until_the_second_look(tmp_path: Path, name: str, before: str) -> None:
    """A look may come between the kill and the end of the process."""
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(f"{before}oom_kill 2\noom_group_kill 0\n")
    kills = MemoryKills(tmp_path)
    assert not kills.are_new()

    file.write_text(f"{before}oom_kill 3\noom_group_kill 0\n")
    kills.look()
    assert kills.are_new()
    assert not kills.are_new()

    file.write_text(f"{before}oom_kill 4\noom_group_kill 0\n")
    kills.look()
    kills.look()
    assert not kills.are_new()


def test_a_kernel_that_does_not_count(tmp_path: Path) -> None:
    assert not MemoryKills(tmp_path).are_new()
