"""Masks passwords and tokens in logs and messages.

Those in URLs and options are found by their form, and copies of them elsewhere in a text. Others are remembered as soon
as a process knows them: those of its environment, and those in the configuration of its plugins.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

MASK = "****"

# Names have an end: without it, the search in a very long word would take minutes.
_URL = re.compile(r"([A-Za-z][\w+.-]{0,50})://(\S+)")  # to the next white space: a password may hold any character
_WORDS = r"(?:token|passw(?:or)?d|passphrase|pwd|secret|credential|signature|(?:api|access|private)[-_]?key)"
_PARAMETER = re.compile(
    rf"(?i)(?<=[?&;#])"
    rf"([^\s=&;#?]{{0,100}}?{_WORDS}[^\s=&;#?]{{0,100}}|(?:[\w-]{{0,100}}[-_])?(?:key|auth|sig|jwt|pass))=[^\s&;#'\"<>]+"
)
# --token=..., --token ..., API_TOKEN=...
_OPTION = re.compile(
    rf"(?i)(?<![^\s'\"])"
    rf"(--?[\w-]{{0,100}}{_WORDS}[\w-]{{0,100}}(?:=| {{1,10}}(?!-))|\w{{0,100}}{_WORDS}\w{{0,100}}=)"
    rf"(?:'[^']*'|\"[^\"]*\"|[^\s'\"]+)"
)
_NAME = re.compile(rf"{_WORDS}|(?:cert|encryption)[-_]?key|_pass$|session_conf", re.IGNORECASE)
_NAME_OF_PATH = re.compile(r"_(?:FILE|PATH|DIR|DIRECTORY)$", re.IGNORECASE)
_NOT_SECRET_NAMES = frozenset({"PWD", "OLDPWD"})
# A number is no secret, nor is a switch, or a reference to a secret.
_NOT_SECRET_VALUE = re.compile(r"\d+|true|false|on|off|none|\{vault:.*", re.IGNORECASE | re.DOTALL)
# What these files hold is in messages, and is no secret.
_PLAIN_FILES = frozenset({"KONG_PLUGINS_FILE", "KONG_PLUGINSERVER_NAMES_FILE", "KONG_ROLE_FILE", "KONG_LOG_LEVEL_FILE"})
_MOST_OF_FILE = 64 * 1024
_REPOSITORY = re.compile(r"(?:git|hg|svn|bzr)\b", re.IGNORECASE)
# Shorter secrets are parts of other words.
_SHORTEST_SECRET = 4
# Secrets that are shorter are masked where they are a word: "kong" is in many words, paths and names.
_SHORTEST_EVERYWHERE = 8
_MOST_KNOWN = 10_000
# The frame of a key in a PEM file.
_PUBLIC_LINE = re.compile(r"-----.*")
# User names that are not a token: the token is in the place of the password, or there is none.
_NOT_SECRET = frozenset({"git", "oauth2", "token", "__token__", "x-access-token", "x-token-auth", "pypi", "user"})


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask the users and passwords of URLs, the tokens in their queries and in options, and what is remembered.

    :param secrets: texts that are masked everywhere, see :func:`secrets_of`.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _URL.sub(lambda found: f"{found[1]}://{_without_user(found[1], found[2])}", text)
    text = _PARAMETER.sub(rf"\1={MASK}", text)
    return without_secrets(_OPTION.sub(rf"\1{MASK}", text))


_known: dict[str, None] = {}
_kept: dict[str, None] = {}


def remember(secrets: Iterable[str]) -> None:
    """Remember secrets of this process, which :func:`without_secrets` masks. Safe to use from many threads."""
    for secret in secrets:
        if secret not in _known:
            for part in _parts(secret):
                _known[part] = None
            while len(_known) > _MOST_KNOWN:
                # Another thread may be at the same.
                with contextlib.suppress(RuntimeError, StopIteration, KeyError):
                    del _known[next(iter(_known))]


def remember_environment(environ: Mapping[str, str]) -> None:
    """Remember the secrets of an environment, for good: those of configurations give way to newer ones."""
    for secret in secrets_of_environment(environ):
        _kept.update(dict.fromkeys(_parts(secret)))


def _parts(secret: str) -> Iterator[str]:
    """Give a secret, what Python's ``repr`` and JSON make of it, and the lines of it: a log has lines."""
    if len(secret) >= _SHORTEST_SECRET:
        yield from dict.fromkeys((secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]))
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if _is_long(line) and not _PUBLIC_LINE.fullmatch(line))


def _longest_first() -> list[str]:
    return sorted({**_kept, **_known}, key=len, reverse=True)


def without_secrets(text: str) -> str:
    """Mask the secrets that this process remembers; everything else stays."""
    for secret in _longest_first():
        if secret not in text:
            continue
        if _is_long(secret):
            text = text.replace(secret, MASK)
        else:
            text = re.sub(rf"(?<![\w/-])(?<!\w\.){re.escape(secret)}(?![\w/-]|\.\w)", MASK, text)
    return text


def without_long_secrets(line: bytes) -> bytes:
    """Mask the secrets that this process remembers in a line of any program, except for those that may be words."""
    for secret in filter(_is_long, _longest_first()):
        line = line.replace(secret.encode("utf-8", "surrogateescape"), MASK.encode())
    return line


def _is_long(secret: str) -> bool:
    return len(secret) >= _SHORTEST_EVERYWHERE


def secrets_of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """Give the secrets of an environment.

    They are variables whose name says so (``KONG_PG_PASSWORD``), passwords in URLs of any variable, and the files of
    Kong's ``_FILE`` variables.
    """
    yield from secrets_of(environ.values())
    for name, value in environ.items():
        if name.startswith("KONG_") and name.endswith("_FILE"):
            if name not in _PLAIN_FILES:
                yield from _content(value)
        elif _NAME.search(name) and name not in _NOT_SECRET_NAMES and not _is_plain(name, value):
            yield value


def _is_plain(name: str, value: str) -> bool:
    """Whether a variable whose name is that of a secret has a value that is none, the path of a file for example."""
    if _NOT_SECRET_VALUE.fullmatch(value) or _NAME_OF_PATH.search(name):
        return True
    return value.startswith("/") and "\0" not in value and os.path.lexists(value)


def _content(file: str) -> Iterator[str]:
    """Give the content of a file, as a program uses it; nothing where it cannot be read, which Kong reports."""
    with contextlib.suppress(OSError, ValueError):
        if Path(file).is_file():
            with Path(file).open(encoding="utf-8", errors="replace") as opened:
                yield opened.read(_MOST_OF_FILE).strip()


def secrets_of(values: Iterable[str]) -> frozenset[str]:
    """Collect the passwords and tokens of the URLs in some values, such as ``PIP_INDEX_URL``.

    A program that parses such a URL may print a part that is no URL: a password with an unescaped ``/`` continues in
    the path.
    """
    found: set[str] = set()
    for value in values:
        for scheme, rest in _URL.findall(value):
            found.update(_secrets_of_user(rest[: _end_of_user(scheme, rest)]))
    return frozenset(found)


def ends_too_early(value: str, certain: bool = False) -> bool:
    """Whether a URL in the value has a user or a password with a ``/``, ``?`` or ``#`` that should be escaped.

    :param certain: ignore a URL that may have an ``@`` in its path: its first part has a dot, as a host has.
    """
    return any(
        re.search(r"[/?#]", rest[: _end_of_user(scheme, rest)])
        and not (certain and "." in re.split(r"[/?#:]", rest, maxsplit=1)[0])
        for scheme, rest in _URL.findall(value)
    )


def has_unparsable_url(value: str) -> bool:
    """Whether an HTTP URL in the value cannot be parsed, such as one with a ``/`` in the password."""
    return any(
        scheme.lower().endswith(("http", "https")) and not _is_parsable(rest.rstrip("'\""))
        for scheme, rest in _URL.findall(value)
    )


def _is_parsable(rest: str) -> bool:
    try:
        _ = urlsplit(f"https://{rest}").port
    except ValueError:
        return False
    return True


def _without_user(scheme: str, rest: str) -> str:
    end = _end_of_user(scheme, rest)
    return f"{MASK}@{rest[end + 1 :]}" if end > 0 else rest


def _end_of_user(scheme: str, rest: str) -> int:
    """Find the ``@`` after the user and the password; 0 if there is none.

    It is the last ``@``, since a password may hold ``@``, ``/``, ``?`` and ``#`` that are not escaped. An ``@`` of the
    path may be taken for it; then more is masked than necessary.
    """
    end = rest.rfind("@")
    host = rest.partition("/")[0]
    while end > len(host) and _is_revision(scheme, host, rest, end):
        end = rest.rfind("@", 0, end)
    return max(end, 0)


def _is_revision(scheme: str, host: str, rest: str, at: int) -> bool:
    """Whether a branch, a tag or a commit follows the ``@``: ``git+https://host/name.git@v1``."""
    repository, behind = rest[:at], rest[at + 1 :].partition("#")[0]
    if "/" in behind:
        return False
    if repository.endswith(".git"):
        return re.fullmatch(r"(?:\S*@)?[\w.-]+(?::\d+)?", host) is not None
    # A host without a dot may be a token with a slash, and a port the begin of a password.
    return _REPOSITORY.match(scheme) is not None and re.fullmatch(r"(?:\S*@)?[\w-]+(?:\.[\w-]+)+", host) is not None


def _secrets_of_user(user: str) -> Iterator[str]:
    name, colon, password = user.partition(":")
    secret = password if colon else name
    if not secret or (not colon and secret.lower() in _NOT_SECRET):
        return
    # The parts before and after a slash may be printed separately.
    parts = [secret, *re.split(r"[/?#]", secret)] if re.search(r"[/?#]", secret) else [secret]
    for part in parts:
        for form in {part, unquote(part), quote(part, safe="")}:
            if len(form) >= _SHORTEST_SECRET:
                yield form
