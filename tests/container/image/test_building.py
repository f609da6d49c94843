"""The Dockerfile: the bases and Pythons that it accepts, its error messages, and the image's labels."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from container.containers import Finished, docker, run_once
from container.product import BUILD_SECONDS, PY_HELLO, REPOSITORY, Launcher, declarative

pytestmark = pytest.mark.timeout(BUILD_SECONDS)

Build = Callable[..., tuple[Finished, str]]

OCI = "org.opencontainers.image."
CONFIG = declarative("py-hello")

# An entrypoint as Kong 3.4 documents it, at /entrypoint.sh as in the images of Kong Inc.: it deletes the sockets in the
# prefix itself and not those in folders. A python3 of another version than PYTHON, which stays the default when the
# base has no Python and the build installs one: dpkg moves the distribution's python3 aside. The scripts that its
# packages run during their installation work with it.
OLDER_BASE = """
FROM {base}
USER root
COPY entrypoint.sh /entrypoint.sh
RUN set -eu; \\
    python=$(readlink -f /usr/bin/python3 || true); \\
    if [ -x /usr/local/kong-embedded/bin/python3 ]; then ln -sf "$python" /usr/local/kong-embedded/bin/python3; fi; \\
    dpkg-divert --local --rename --add /usr/bin/python3; \\
    rm -f /usr/bin/python3 /docker-entrypoint.sh; \\
    printf '#!/bin/sh\\necho another python >&2\\ntest $# -gt 0 && exec /usr/bin/{python} "$@"\\n' \\
        >/usr/bin/python3; \\
    chmod 755 /usr/bin/python3 /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
USER kong
"""
OLDER_ENTRYPOINT = """#!/bin/bash
set -e
export KONG_NGINX_DAEMON=${KONG_NGINX_DAEMON:-off}
if [ "$1 $2" != "kong docker-start" ]; then exec "$@"; fi
prefix=${KONG_PREFIX:-/usr/local/kong}
kong prepare -p "$prefix"
for file in "$prefix"/*; do
    if [ -S "$file" ]; then rm -f "$file"; fi
done
ln -sfn /dev/stdout "$prefix/logs/access.log"
ln -sfn /dev/stderr "$prefix/logs/error.log"
if command -v kong-embedded-gateway >/dev/null; then exec kong-embedded-gateway -p "$prefix"; fi
exec /usr/local/openresty/nginx/sbin/nginx -p "$prefix" -c nginx.conf
"""

WITHOUT_APT = """
FROM {base}
USER root
RUN rm -f "$(command -v apt-get)" && printf 'ID=wolfi\\nPRETTY_NAME="Wolfi"\\n' >/tmp/os && mv /tmp/os /etc/os-release
USER kong
"""

NO_KONG = """
FROM {base}
USER root
RUN rm -f /docker-entrypoint.sh /entrypoint.sh
"""

# An archive whose Python is too old: apt finds and installs nothing, and the base's Python says that it is 3.9.
WITH_OLD_PYTHON = """
FROM {base}
USER root
RUN set -eu; \\
    for program in apt-get apt-cache; do \\
        printf '#!/bin/sh\\nexit 0\\n' >/usr/local/sbin/$program; chmod 755 /usr/local/sbin/$program; \\
    done; \\
    printf '#!/bin/sh\\necho 3.9\\n' >/usr/bin/python3.9; chmod 755 /usr/bin/python3.9
USER kong
"""


@pytest.fixture
def build(kong_image: str) -> Iterator[Build]:
    """Build the image by the script that people use; images are removed when the test ends."""
    tags = []

    def begin(base: str = kong_image, **env: str) -> tuple[Finished, str]:
        tags.append(f"kong-python-test-{secrets.token_hex(6)}")
        done = subprocess.run(
            [REPOSITORY / "scripts" / "image", tags[-1], base],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=BUILD_SECONDS,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr), tags[-1]

    yield begin
    for tag in tags:
        docker("image", "rm", "--force", tag, check=False)


def labels(image: str) -> dict[str, str]:
    lines = docker("image", "inspect", "--format", "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}\n{{end}}", image)
    return dict(line.split("=", 1) for line in lines.stdout.splitlines() if line)


def refusal(done: Finished) -> str:
    """The error message of a build."""
    assert done.exit_code != 0, done.output
    [message] = set(re.findall(r"kong-python: .+", done.stderr))
    return message


def test_the_labels(image: str, kong_image: str) -> None:
    """The image names its title, version, licence, base, day and commit in the labels of the OCI."""
    found = labels(image)
    version = run_once(image, "kong-python", "--version", options=["--no-healthcheck"])

    assert found[f"{OCI}title"] == "kong-python"
    assert found[f"{OCI}description"]
    assert found[f"{OCI}licenses"] == "Apache-2.0"
    assert version.stdout.split() == ["kong-python", found[f"{OCI}version"]]
    assert found[f"{OCI}base.name"] == kong_image
    assert datetime.fromisoformat(found[f"{OCI}created"].replace("Z", "+00:00")).tzinfo is not None


def test_no_label_of_the_base_is_left(image: str, kong_image: str) -> None:
    """Labels that describe the base, as Kong's or Ubuntu's image, are not on this image."""
    image_labels = labels(image)
    inherited = [
        name
        for name, value in labels(kong_image).items()
        if (name == "maintainer" or name.startswith(OCI)) and value and image_labels[name] == value
    ]

    assert inherited in ([], [f"{OCI}licenses"])


def test_the_commit(build: Build, image: str) -> None:
    """The revision is the commit, marked -dirty if the image's files differ from it."""
    parts = ["Dockerfile", "docker/kong", "docker/pip-settings", "docker/prepare-base", "docker/supervisorctl"]
    commit = git("rev-parse", "HEAD")
    differs = git("status", "--porcelain", "--", *parts, "pdk/README.md", "pdk/pyproject.toml", "pdk/src")
    expected = f"{commit}-dirty" if differs else commit
    done, tag = build(IMAGE_SOURCE="https://git.example/kong-python")
    assert done.exit_code == 0, done.output

    found = labels(tag)
    assert found[f"{OCI}revision"] == expected
    for name in ("source", "url", "documentation"):
        assert found[f"{OCI}{name}"] == "https://git.example/kong-python"


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        pytest.skip("this is no git repository")
    return done.stdout.strip()


def test_an_older_base_and_another_python(shared: Launcher, kong: Launcher, kong_image: str, build: Build) -> None:
    """PYTHON names the Python; the base has an older Kong's entrypoint at its other path, and its own python3."""
    python = run_once(shared.image, "python", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])")
    name = python.stdout.strip()
    base = shared.derive(OLDER_BASE.format(base=kong_image, python=name), {"entrypoint.sh": OLDER_ENTRYPOINT})
    done, tag = build(base, IMAGE_PYTHON=name)
    assert done.exit_code == 0, done.output

    container = kong.start(image=tag, plugins=kong.folder({"py-hello.py": PY_HELLO}), config=CONFIG)
    assert "x-hello-from-python" in container.wait_until_serving().headers
    container.wait_until_check_passes()
    assert container.exec("readlink", "-f", "/opt/kong-python/bin/python3").stdout.strip() == f"/usr/bin/{name}"
    # Programs without a PATH, such as the servers that Kong starts itself.
    bare = container.exec("env", "-i", "sh", "-c", "python -c 'import kong_pdk, msgpack; print(kong_pdk.__version__)'")
    assert bare.stdout.strip() == labels(tag)[f"{OCI}version"]
    assert "another python" in container.exec("/usr/bin/python3", check=False).output
    assert container.stop() == 0


def test_a_base_without_apt_is_refused(shared: Launcher, kong_image: str, build: Build) -> None:
    """A base that is neither Debian nor Ubuntu ends the build with its name and a hint."""
    done, _ = build(shared.derive(WITHOUT_APT.format(base=kong_image), {}))

    assert refusal(done) == (
        "kong-python: this base image (Wolfi) has no apt-get; use a Debian or Ubuntu based Kong image, such as kong:3.9"
    )


def test_a_base_without_kong_is_refused(shared: Launcher, kong_image: str, build: Build) -> None:
    """A base without Kong ends the build with the name of the missing file."""
    message = refusal(build(shared.derive(NO_KONG.format(base=kong_image), {}))[0])

    assert message.endswith("has no /docker-entrypoint.sh; use a Kong image, such as kong:3.9")


def test_an_old_python_is_refused(shared: Launcher, kong_image: str, build: Build) -> None:
    """A Python below 3.10 ends the build with its version and the hint."""
    base = shared.derive(WITH_OLD_PYTHON.format(base=kong_image), {})
    message = refusal(build(base, IMAGE_PYTHON="python3.9")[0])

    assert "python3.9 of this base image (" in message
    assert "is Python 3.9, 3.10 is the least; use a newer base image, or name a newer Python" in message


def test_a_python_that_the_archive_lacks_is_refused(build: Build) -> None:
    """The name of a missing package ends the build with the names of available packages."""
    message = refusal(build(IMAGE_PYTHON="python3.99")[0])

    assert "have no package python3.99; leave PYTHON out for python3, or name one of those they have: " in message
    assert "python3.1" in message.rpartition(": ")[2]


@pytest.mark.parametrize("name", ["pypy3", "python", "python3; id"])
def test_a_name_that_is_not_a_python_is_refused(name: str, build: Build) -> None:
    """A name that is not a Python package's ends the build before anything is installed."""
    assert refusal(build(IMAGE_PYTHON=name)[0]) == (
        f"kong-python: PYTHON is '{name}'; set it to the apt package of a Python, such as python3 or python3.12"
    )
