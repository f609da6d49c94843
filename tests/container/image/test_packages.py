"""Plugins get the packages of requirements.txt: one file for all plugins, or a plugin's own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import pytest
from container import log_lines
from container.containers import run_once
from container.log_lines import DANGLING_SOCKETS, REFUSED_PACKAGES, UNPINNED, Expected
from container.product import PACKAGES, PLUGINS, Kong, Launcher, declarative
from wheels import wheel

EX_CONFIG = 78
PLUGIN = """
import {module}


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        kong.response.set_header("x-{name}", {module}.VERSION)
"""

# A library in two versions, a package that needs the first of them, and no other package.
WHEELS = dict([wheel("alpha", "1.0"), wheel("alpha", "2.0"), wheel("beta", "1.0", needs=("alpha<2",))])
FOR_ALL = PLUGIN.format(module="alpha", name="for-all")
OWN = PLUGIN.format(module="alpha", name="own").replace("import alpha", "import alpha\nimport beta")
FILES = {
    "for-all.py": FOR_ALL,
    "own/plugin.py": OWN,
    "requirements.txt": "alpha==2.0\n",
    "own/requirements.txt": "beta==1.0\n",
}
CONFIG = declarative("for-all", "own")
ONE = {name: text for name, text in FILES.items() if "own" not in name}

NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/opt/wheels"}
NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
WITHOUT_RIGHTS = ("--read-only", "--tmpfs=/run/kong", "--tmpfs=/run/kong-python", "--tmpfs=/tmp", "--cap-drop=ALL")

NOT_INSTALLED = Expected(
    "kong-python",
    "error",
    r"cannot be installed: |KONG_PYTHON_ON_BROKEN_PLUGIN=skip",
    "the test asks for a package that does not exist, and starts without the plugin",
)


def with_wheels(launcher: Launcher) -> str:
    """The option that mounts the wheels."""
    return f"--volume={launcher.folder(WHEELS)}:/opt/wheels:ro"


def serves(container: Kong) -> None:
    """Each plugin has the version of the library that it asked for."""
    headers = container.wait_until_serving().headers
    assert (headers["x-for-all"], headers["x-own"]) == ("2.0", "1.0")


def notices(container: Kong, words: str) -> list[str]:
    """The image's notices with these words."""
    return [line.text for line in container.lines("kong-python", "notice") if words in line.text]


def start_failures(kong: Launcher, files: Mapping[str, str], *options: str, **env: str) -> list[str]:
    """Start Kong with a folder; give the messages with which the start fails."""
    folder = kong.folder(files)
    done = kong.run(
        plugins=folder, config=declarative(), env={**NO_INDEX, **env}, options=[with_wheels(kong), *options]
    )
    assert done.exit_code == EX_CONFIG, done.output
    assert "Traceback" not in done.output
    *messages, last = [line.text for line in log_lines.trouble(log_lines.parse(done.output))]
    assert "Kong is not started" in last
    return messages


def test_a_mounted_folder(kong: Launcher) -> None:
    """requirements.txt in the folder is for all plugins, one in a plugin's folder for that plugin, at the start.

    A restart of the container does not run pip, and so needs no index.
    """
    options = [with_wheels(kong)]
    container = kong.start(
        plugins=kong.folder(FILES), config=CONFIG, env=NO_INDEX, options=options, expected=[DANGLING_SOCKETS]
    )
    serves(container)
    assert len(notices(container, "installed ")) == 2, container.logs()
    assert container.exec("kong-python", "plugins").exit_code == 0
    container.wait_until_check_passes()
    assert container.stop() == 0
    container.start()
    serves(container)
    assert len(notices(container, "installing ")) == 2, container.logs()


def test_a_named_volume(kong: Launcher) -> None:
    """A named volume on /var/lib/kong-python keeps the packages for the next container, also without an index."""
    volume = f"--volume={kong.volume()}:{PACKAGES}"
    plugins = kong.folder(FILES)
    first = kong.start(plugins=plugins, config=CONFIG, env=NO_INDEX, options=[volume, with_wheels(kong)])
    serves(first)
    second = kong.start(plugins=plugins, config=CONFIG, env=NOWHERE, options=[volume])
    serves(second)
    assert notices(second, "install") == []


def test_few_rights(kong: Launcher) -> None:
    """It works with a read-only root, without capabilities and as another user, whose group is 0."""
    volume = f"--volume={kong.volume()}:{PACKAGES}"
    container = kong.start(
        plugins=kong.folder(FILES),
        config=CONFIG,
        env={**NO_INDEX, "KONG_PREFIX": "/run/kong"},
        options=["--user=123456", *WITHOUT_RIGHTS, volume, with_wheels(kong)],
    )
    serves(container)


def test_a_volume_of_two_users(kong: Launcher) -> None:
    """Users who share a volume install their own packages: no user runs packages that another user could change."""
    volume = f"--volume={kong.volume()}:{PACKAGES}"
    plugins = kong.folder(ONE)
    options = [*WITHOUT_RIGHTS, volume, with_wheels(kong)]
    env = {**NO_INDEX, "KONG_PREFIX": "/run/kong"}
    first = kong.start(plugins=plugins, config=declarative("for-all"), env=env, options=["--user=123456", *options])
    assert first.wait_until_serving().headers["x-for-all"] == "2.0"
    second = kong.start(
        plugins=plugins, config=declarative("for-all"), env=env, options=options, expected=[REFUSED_PACKAGES]
    )
    assert second.wait_until_serving().headers["x-for-all"] == "2.0"
    [warning] = [line.text for line in second.lines("kong-python", "warn")]
    assert "its folder belongs to uid 123456, and uid " in warning
    # The first user's packages are unchanged.
    again = kong.start(
        plugins=plugins,
        config=declarative("for-all"),
        env={**env, **NOWHERE},
        options=["--user=123456", *WITHOUT_RIGHTS, volume],
    )
    assert again.wait_until_serving().headers["x-for-all"] == "2.0"


def test_packages_that_other_users_can_write_to(kong: Launcher) -> None:
    """Packages that another user could have changed are not used: the log says so, and they are installed again."""
    volume = f"--volume={kong.volume()}:{PACKAGES}"
    plugins = kong.folder(ONE)
    first = kong.start(
        plugins=plugins, config=declarative("for-all"), env=NO_INDEX, options=[volume, with_wheels(kong)]
    )
    assert first.wait_until_serving().headers["x-for-all"] == "2.0"
    first.exec("sh", "-c", f"chmod -R a+w {PACKAGES}/environments/*/")
    without = {"KONG_PYTHON_INSTALL": "off"}
    refusing = kong.run(plugins=plugins, config=declarative("for-all"), env={**NO_INDEX, **without}, options=[volume])
    assert refusing.exit_code == EX_CONFIG
    assert "can be written to by others" in refusing.output and "chmod -R go-w" in refusing.output
    second = kong.start(
        plugins=plugins,
        config=declarative("for-all"),
        env=NO_INDEX,
        options=[volume, with_wheels(kong)],
        expected=[REFUSED_PACKAGES],
    )
    assert second.wait_until_serving().headers["x-for-all"] == "2.0"
    assert second.exec("sh", "-c", f"find {PACKAGES}/environments/*/ -perm /022 ! -type l").stdout == ""


def test_a_tmpfs(kong: Launcher) -> None:
    """With a read-only root and no volume, a tmpfs works, for any user and group."""
    container = kong.start(
        plugins=kong.folder(FILES),
        config=CONFIG,
        env={**NO_INDEX, "KONG_PREFIX": "/run/kong"},
        options=["--user=4321:4321", *WITHOUT_RIGHTS, f"--tmpfs={PACKAGES}:exec,uid=4321", with_wheels(kong)],
    )

    serves(container)


def test_a_tmpfs_without_exec(kong: Launcher) -> None:
    """On a tmpfs with noexec nothing is installed, and the message has the option that helps."""
    messages = start_failures(kong, FILES, f"--tmpfs={PACKAGES}")
    uid = run_once(kong.image, "id", "-u", options=["--no-healthcheck"]).stdout.strip()

    failures = [text for text in messages if "requirements.txt: " in text]
    assert len(failures) == 2, messages
    assert all("noexec" in text and f"--tmpfs {PACKAGES}:exec,uid={uid}" in text for text in failures), failures


def test_nowhere_to_install(kong: Launcher) -> None:
    """A read-only root without a volume gives a message with a hint."""
    messages = start_failures(kong, FILES, *WITHOUT_RIGHTS, KONG_PREFIX="/run/kong")

    failures = [text for text in messages if "requirements.txt: " in text]
    assert len(failures) == 2, messages
    assert all("cannot be written to" in text and "RUN kong-python install" in text for text in failures), failures


def test_a_failed_install_is_named(kong: Launcher) -> None:
    """Kong does not start, exit code 78, and each message has the plugin, file, line, pip's reason and a hint.

    A plugin that lacks a package of the file for all plugins is named, too.
    """
    broken = {"requirements.txt": "alpha\nnowhere\n", "own/requirements.txt": "# as the docs say\nbeta\nalpha>=2\n"}

    dependent, own, for_all = sorted(start_failures(kong, {**FILES, **broken}))

    assert dependent.startswith(f"{PLUGINS}/for-all.py:2: ") and f"fix {PLUGINS}/req" in dependent
    assert for_all.startswith(f"{PLUGINS}/requirements.txt:2: the packages of all plugins cannot be installed: ")
    assert "requirement nowhere (from versions: none)" in for_all and "fix the name" in for_all
    assert re.match(rf"{PLUGINS}/own/requirements\.txt:\d: the packages of plugin own cannot be installed: ", own)
    assert "beta 1.0 depends on alpha<2" in own


def test_a_hash_that_does_not_match(kong: Launcher) -> None:
    """With hashes in requirements.txt, pip installs nothing that differs: Kong does not start, and the line is named.

    The right hash is accepted.
    """
    name, content = next(iter(WHEELS.items()))
    right = hashlib.sha256(content).hexdigest()
    line = "alpha==1.0 --hash=sha256:"
    plugins = {**ONE, "requirements.txt": f"# pinned\n{line}{right}\n"}
    container = kong.start(
        plugins=kong.folder(plugins), config=declarative("for-all"), env=NO_INDEX, options=[with_wheels(kong)]
    )
    assert container.wait_until_serving().headers["x-for-all"] == "1.0"

    [dependent, failure] = sorted(
        start_failures(kong, {**plugins, "requirements.txt": f"# pinned\n{line}{'0' * 64}\n"})
    )

    assert dependent.startswith(f"{PLUGINS}/for-all.py:2: ")
    assert failure.startswith(f"{PLUGINS}/requirements.txt:2: the packages of all plugins cannot be installed: ")
    assert "DO NOT MATCH THE HASHES" in failure and f"Got {right}; find out which hash is right" in failure, (
        name,
        failure,
    )


def test_starting_without_plugins_whose_install_failed(kong: Launcher) -> None:
    """With KONG_PYTHON_ON_BROKEN_PLUGIN=skip the other plugins are served."""
    container = kong.start(
        plugins=kong.folder({**FILES, "own/requirements.txt": "nowhere\n"}),
        config=declarative("for-all"),
        env={**NO_INDEX, "KONG_PYTHON_ON_BROKEN_PLUGIN": "skip"},
        options=[with_wheels(kong)],
        expected=[NOT_INSTALLED],
    )
    headers = container.wait_until_serving().headers

    assert headers["x-for-all"] == "2.0"
    assert "x-own" not in headers
    assert any("plugin own cannot be installed" in line.text for line in container.lines("kong-python", "error"))


def test_installing_can_be_switched_off(kong: Launcher) -> None:
    """With KONG_PYTHON_INSTALL=off nothing is installed, and the message for a missing package says so."""
    [for_all, own] = start_failures(kong, FILES, KONG_PYTHON_INSTALL="off")

    assert for_all.startswith(f"{PLUGINS}/for-all.py:2: ") and own.startswith(f"{PLUGINS}/own/plugin.py:2: ")
    assert all("KONG_PYTHON_INSTALL=wheels" in text and "requirements.txt" in text for text in (for_all, own))


TELLING_BUILD = """
import json, os, sys, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    path = os.path.join(wheel_directory, "alpha-3.0-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("alpha.py", "VERSION = '3.0'\\nSEEN = %r" % sorted(os.environ))
        made.writestr("alpha-3.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: alpha\\nVersion: 3.0\\n")
        made.writestr("alpha-3.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        made.writestr("alpha-3.0.dist-info/RECORD", "")
    return os.path.basename(path)
"""
BUILT = {
    "for-all.py": FOR_ALL.replace("alpha.VERSION", "' '.join(alpha.SEEN)"),
    "requirements.txt": "./lib\n",
    "lib/build_alpha.py": TELLING_BUILD,
    "lib/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "build_alpha"\nbackend-path = ["."]\n',
}


def test_only_wheels_are_installed(kong: Launcher) -> None:
    """Nothing is built unless KONG_PYTHON_INSTALL=on: the message names the line and the variable."""
    [failure, dependent] = sorted(start_failures(kong, BUILT), key=lambda text: "for-all.py" in text)

    assert failure.startswith(f"{PLUGINS}/requirements.txt:1: ") and "./lib has to be built from source" in failure
    assert "KONG_PYTHON_INSTALL=on" in failure
    assert f"fix {PLUGINS}/requirements.txt" in dependent


def test_a_build_sees_no_password(kong: Launcher) -> None:
    """A build gets only the variables that pip needs: no setting of Kong, and no password."""
    env = {**NO_INDEX, "KONG_PYTHON_INSTALL": "on", "KONG_PG_PASSWORD": "secret", "AWS_SECRET_ACCESS_KEY": "secret"}
    container = kong.start(plugins=kong.folder(BUILT), config=declarative("for-all"), env=env)
    seen = container.wait_until_serving().headers["x-for-all"].split()

    assert {"PATH", "PIP_NO_INDEX"} <= set(seen)
    assert not [name for name in seen if name.startswith(("KONG_", "AWS_"))]


def test_stopping_while_it_installs(kong: Launcher) -> None:
    """docker stop does not wait for pip."""
    waits = "import time\nprint('building', flush=True)\ntime.sleep(600)\n"
    files = {"for-all.py": FOR_ALL, "requirements.txt": "./slow\n", "slow/setup.py": waits}
    env = {**NO_INDEX, "PIP_NO_BUILD_ISOLATION": "0", "KONG_PYTHON_INSTALL": "on"}
    container = kong.start(plugins=kong.folder(files), config=CONFIG, env=env, ports=())
    container.wait_for_log("installing the packages of all plugins")

    assert container.stop() == 0


DOCKERFILE = """
FROM {image}
COPY wheels/ /opt/wheels/
COPY plugins/ {plugins}/
RUN PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/wheels kong-python install
"""


@pytest.mark.parametrize("user", ["", "USER root\n"], ids=["as kong", "as root"])
def test_a_derived_image(kong: Launcher, user: str) -> None:
    """RUN kong-python install puts the packages into a derived image, which needs no index at its start."""
    dockerfile = DOCKERFILE.format(image=kong.image, plugins=PLUGINS).replace("RUN ", f"{user}RUN ")
    files = {f"plugins/{name}": content for name, content in FILES.items()}
    image = kong.derive(
        f"{dockerfile}USER kong\n", {**files, **{f"wheels/{name}": content for name, content in WHEELS.items()}}
    )
    container = kong.start(
        image=image,
        config=CONFIG,
        env={**NOWHERE, "KONG_PREFIX": "/run/kong"},
        options=[*WITHOUT_RIGHTS, "--user=4321:4321"],
    )

    serves(container)
    assert notices(container, "install") == []


def test_a_real_index(kong: Launcher) -> None:
    """Packages come from the index of pip's settings, with the machine's certificates."""
    plugin = "import semver\n" + PLUGIN.format(module="sys", name="real").replace(
        "sys.VERSION", "str(semver.Version.parse('1.2.3').bump_minor())"
    )
    container = kong.start(
        plugins=kong.folder({"real.py": plugin, "requirements.txt": "semver>=3,<4\n"}),
        config=declarative("real"),
        index=True,
        expected=[UNPINNED],
    )

    assert container.wait_until_serving().headers["x-real"] == "1.3.0"
    [warning] = [line.text for line in container.lines("kong-python", "warn")]
    assert re.search(r"other versions of semver>=3,<4 \(line 1\); pin them: semver==3\.\S+$", warning)
