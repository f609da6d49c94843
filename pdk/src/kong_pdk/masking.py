"""Masks passwords and tokens in logs and messages: those in URLs, and copies of them elsewhere in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote, urlsplit

MASK = "****"

# Up to the next white space: a password may hold quotes, brackets and any other character.
_URL = re.compile(r"([A-Za-z][\w+.-]*)://(\S+)")
_PARAMETER = re.compile(
    r"(?i)(?<=[?&;#])([^\s=&;#?]*?"
    r"(?:token|passw(?:or)?d|passphrase|pwd|secret|credential|signature|api[-_]?key|access[-_]?key|private[-_]?key)"
    r"[^\s=&;#?]*|(?:[\w-]*[-_])?(?:key|auth|sig|jwt|pass))=[^\s&;#'\"<>]+"
)
_REPOSITORY = re.compile(r"(?:git|hg|svn|bzr)\b", re.IGNORECASE)
# Shorter secrets are parts of other words.
_SHORTEST_SECRET = 4
# User names that are not a token: the token is in the place of the password, or there is none.
_NOT_SECRET = frozenset({"git", "oauth2", "token", "__token__", "x-access-token", "x-token-auth", "pypi", "user"})


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask the users and passwords of URLs, and the tokens in their queries.

    :param secrets: texts that are masked everywhere, see :func:`secrets_of`.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _URL.sub(lambda found: f"{found[1]}://{_without_user(found[1], found[2])}", text)
    return _PARAMETER.sub(rf"\1={MASK}", text)


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
