"""What the image adds to its base: no path that the wrong user can write to, no compiler, no cache."""

from __future__ import annotations

import pytest
from container.containers import run_once
from container.product import PY_HELLO, Launcher, declarative

# Without the file systems that the engine mounts. A base has paths of its own, which are not this project's.
FIND = "find / -xdev -path /proc -prune -o ! -type l"

WRITABLE = {
    "/run/kong",
    "/run/kong-python",
    "/var/lib/kong-python",
    "/var/lib/kong-python/environments",
    # Beside Kong's interface file and with its owner: Kong's image gives its prefix to its user.
    "/usr/local/kong/include/kong/pluginsocket.proto.orig",
}
COMPILERS = "cc gcc g++ c++ clang cpp ld as make cmake tcc rustc cargo go git"


def found(image: str, script: str, user: str = "root") -> set[str]:
    """Run a script in an image; give the lines that it prints."""
    options = ["--no-healthcheck", f"--user={user}", "--entrypoint=sh"]
    return set(run_once(image, "-c", f"{script} 2>/dev/null", options=options).stdout.splitlines())


def added(image: str, base: str, script: str, user: str = "root") -> set[str]:
    """Give what the script prints in the image, and not in its base."""
    return found(image, script, user) - found(base, script, user)


def test_nothing_is_world_writable(image: str, kong_image: str) -> None:
    """Every user can write to sticky directories, and to nothing else."""
    assert added(image, kong_image, f"{FIND} -perm -0002 ! '(' -type d -perm -1000 ')' -print") == set()
    sticky = found(image, f"{FIND} -type d -perm -1002 -print")
    assert {"/tmp", "/run/kong", "/run/kong-python"} <= sticky  # the search finds what there is


@pytest.mark.parametrize("user", ["kong", "4321:0"])
def test_what_the_user_can_write_to(image: str, kong_image: str, user: str) -> None:
    """The image's user, and any user of group 0, can change the directories of running Kongs, and no program."""
    assert added(image, kong_image, f"{FIND} -writable -print", user) == WRITABLE


def test_the_code_belongs_to_root(image: str) -> None:
    """The PDK, its packages, Python's library and the folder of plugins are root's, and only root can change them."""
    places = "/opt/kong-python /opt/kong /usr/local/share/sbom /usr/lib/python3*"
    assert found(image, f"find {places} ! -type l '(' ! -user root -o -perm /022 ')' -print") == set()
    assert found(image, "find /opt/kong-python -name bridge.py -user root -print") != set()


def test_no_program_with_more_rights_is_added(image: str, kong_image: str) -> None:
    """The image adds no file that runs with its owner's or its group's rights."""
    assert added(image, kong_image, f"{FIND} -type f -perm /6000 -print") == set()


def test_no_compiler_is_added(image: str, kong_image: str) -> None:
    """Code that gets into a container finds no compiler there."""
    assert added(image, kong_image, f"for each in {COMPILERS}; do command -v $each; done") == set()
    assert found(image, "command -v python3") != set()


def test_nothing_is_left_of_the_build(image: str, kong_image: str) -> None:
    """No cache of pip or apt, no wheel, no settings of the building machine, no source of a compiled module."""
    names = ("*.whl", "pip.conf", ".cache", "*.pyx")
    tests = " -o ".join(f"-name '{name}'" for name in names)
    assert added(image, kong_image, f"{FIND} '(' {tests} ')' -print") == set()
    left = "find /tmp /var/tmp /root/.cache /var/lib/apt/lists /var/cache/apt /home -mindepth 1 -type f -print"
    assert added(image, kong_image, left) == set()


def test_sockets_are_the_users_own(kong: Launcher) -> None:
    """Sockets have mode 0600, and are in directories with mode 0700 of the container's user."""
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=declarative("py-hello"))
    container.wait_until_serving()
    sockets = container.exec("find", "/run/kong-python", "-type", "s", "-printf", "%m %u %f\n").stdout.splitlines()
    assert sorted(sockets) == ["600 kong py-hello.sock", "600 kong supervisor.sock"]
    folders = container.exec("find", "/run/kong-python", "-mindepth", "1", "-type", "d", "-printf", "%m %u\n")
    assert set(folders.stdout.splitlines()) == {"700 kong"}
