"""``docker/embedded/build``: its archive, its error messages, and no second build for the same inputs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from container.containers import Finished, docker

REPOSITORY = Path(__file__).resolve().parents[3]
BUILD = REPOSITORY / "docker" / "embedded" / "build"
IMAGE = "kong-python-embedded-base:3.9"


def bash(script: str, **environment: str) -> Finished:
    """Run a line of bash with the build script's functions."""
    done = subprocess.run(
        ["bash", "-c", f". '{BUILD}'; {script}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def programs(folder: Path, **scripts: str) -> str:
    """Give a PATH whose first entry holds these programs."""
    for name, text in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def apt_knows(archives: str) -> str:
    """Give a program that prints the output of `apt-get --print-uris update` for these archives."""
    lines = []
    for archive in archives.splitlines():
        uri, release, component = archive.split()
        lines.append(f"'{uri.rstrip('/')}/dists/{release}/InRelease' name 0 ")
        lines += [
            f"'{uri.rstrip('/')}/dists/{release}/{component}/binary-{kind}/Packages.xz' name 0 "
            for kind in ("amd64", "all")
        ]
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND"


@pytest.mark.parametrize(
    ("archives", "mirror"),
    [
        ("http://a.example/debian trixie main", "http://a.example/debian"),
        ("http://a.example/debian/ trixie main", "http://a.example/debian"),
        (
            "http://vendor.example/apt trixie main\nhttp://a.example/mirror/debian trixie main",
            "http://a.example/mirror/debian",
        ),
        ("http://a.example/archive trixie main\nhttp://a.example/other trixie main", "http://a.example/archive"),
        ("http://a.example/debian bookworm main\nhttp://a.example/debian trixie contrib", ""),
        ("", ""),
    ],
)
def test_mirror_of_the_host(tmp_path: Path, archives: str, mirror: str) -> None:
    """The distribution's own archive is used, not another vendor's archive of the same release name."""
    path = programs(tmp_path, apt_get=apt_knows(archives))
    assert bash("host_mirror trixie", PATH=path).stdout.strip() == mirror


def test_list_of_mirrors(tmp_path: Path) -> None:
    """apt's mirror+file: names a file of archives; the first one is used."""
    (tmp_path / "mirrors.txt").write_text("# best first\nhttp://a.example/ubuntu/\tpriority:1\nhttp://b.example/u\n")
    path = programs(tmp_path, apt_get=apt_knows(f"mirror+file:{tmp_path}/mirrors.txt noble main"))
    assert bash("host_mirror noble", PATH=path).stdout.strip() == "http://a.example/ubuntu/"


def test_a_host_without_an_archive_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """Where apt has no archive, the message names the variables to set."""
    path = programs(tmp_path, apt_get="exit 1")
    done = bash("choose_archive", PATH=path)
    assert done.exit_code == 1
    assert "set DEBIAN_MIRROR" in done.stderr


def test_a_given_mirror_wins(tmp_path: Path) -> None:
    """DEBIAN_MIRROR and DEBIAN_SUITE are used unchanged, and apt is not asked."""
    path = programs(tmp_path, apt_get=apt_knows("http://a.example/debian sid main"))
    done = bash("choose_archive; sources_list", PATH=path, DEBIAN_MIRROR="http://m.example/d", DEBIAN_SUITE="sid")
    assert done.stdout.split()[:3] == ["deb", "http://m.example/d", "sid"]
    assert "a.example" not in done.stdout


def test_without_root_the_build_ends_with_a_message(tmp_path: Path) -> None:
    """debootstrap needs root; the message says how to get it."""
    done = bash("need_debootstrap", PATH=programs(tmp_path, id="echo 1000"))
    assert done.exit_code == 1
    assert "needs root" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "passed"),
    [
        ("PIP_INDEX_URL", "http://index.example/simple", True),
        ("PIP_FIND_LINKS", "http://links.example/", True),
        ("PIP_FIND_LINKS", "/opt/wheels", False),
        ("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt", True),
        ("PIP_CERT", "/home/me/ca.pem", False),
        ("PIP_TARGET", "/somewhere", False),
    ],
)
def test_settings_of_pip(variable: str, value: str, passed: bool) -> None:
    """pip's settings are passed on, except those that name a place on this machine."""
    option = variable.removeprefix("PIP_").lower().replace("_", "-")
    expected = ["[global]", f"{option} = {value}"] if passed else ["[global]"]
    assert bash("pip_conf", **{variable: value}).stdout.splitlines() == expected


def test_arguments_are_refused() -> None:
    """An argument is refused, and the message lists the variables."""
    done = subprocess.run([BUILD, "now"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "DEBIAN_MIRROR" in done.stdout


def test_without_docker_the_build_ends_with_a_message(tmp_path: Path) -> None:
    """Without a docker command the build ends with one message."""
    done = bash("PATH=/nowhere; need_docker")
    assert done.exit_code == 1
    assert done.stderr.strip() == "embedded-base: docker is not installed; install Docker and run this again"


def test_an_image_that_is_up_to_date_is_one_line(stand_in: bool, tmp_path: Path) -> None:
    """A second build with the same inputs, or two at once, changes nothing and says so in one line."""
    if not stand_in:
        pytest.skip("the base image under test is not the stand-in, and building that needs root and an archive")
    # A copy, so that no edit disturbs the test.
    for part in ("docker/embedded", "pdk"):
        shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "build"))
    shutil.copy2(BUILD, tmp_path / "docker" / "embedded")
    build = tmp_path / "docker" / "embedded" / "build"
    subprocess.run([build], check=True, timeout=1800, capture_output=True)
    identity = docker("image", "inspect", "--format", "{{.Id}}", IMAGE).stdout
    both = [subprocess.Popen([build], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, output = process.communicate(timeout=600)
        assert process.returncode == 0, output
        assert output.startswith(f"embedded-base: {IMAGE} is up to date"), output
        assert output.count("\n") == 1
    assert docker("image", "inspect", "--format", "{{.Id}}", IMAGE).stdout == identity
