"""Kong's rules for paths: normalised for routing, joined and escaped for the upstream."""

from __future__ import annotations

import re

_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_RESERVED = frozenset(b"!#$%&'()*+,/:;=?@[]")
_PLAIN = re.compile(rb"[^!#$&'()*+,/:;=?@\[\]\-_.~%A-Za-z0-9]")
_SEGMENT = rb"[A-Za-z0-9_~-][A-Za-z0-9_~.-]*"
_SIMPLE = re.compile(rb"/(?:%s/)*(?:%s)?" % (_SEGMENT, _SEGMENT))


def _decode(match: re.Match[bytes]) -> bytes:
    code = int(match[1], 16)
    return b"%" + match[1].upper() if code in _RESERVED else bytes((code,))


def normalize(path: bytes) -> bytes:
    """Decode unnecessary escapes, resolve ``.`` and ``..``, and merge slashes, like Kong's router."""
    if _SIMPLE.fullmatch(path):
        return path
    kept: list[bytes] = []
    segments = _ESCAPED.sub(_decode, path).split(b"/")
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(segment)
    joined = b"/" + b"/".join(kept)
    return joined + b"/" if kept and segments[-1] in {b"", b".", b".."} else joined


def escape(path: bytes) -> bytes:
    """Percent-encode the bytes that are not allowed in a path."""
    return _PLAIN.sub(lambda match: b"%%%02X" % match[0][0], path)


def join(base: bytes, path: bytes, matched: int, strip: bool, handling: str = "v0") -> bytes:
    """The upstream's path, made of a service's path and the request's path.

    :param base: the service's path.
    :param path: the request's path, normalised.
    :param matched: the number of bytes of ``path`` that the route's path has matched.
    :param strip: whether to remove the matched bytes.
    :param handling: Kong's ``path_handling``: ``v0`` puts exactly one slash between the two paths, ``v1`` does not.
    """
    rest = path[matched:] if strip else path
    if handling == "v1":
        return base + (rest[1:] if base.endswith(b"/") and rest.startswith(b"/") else rest)
    if not strip:
        return base if path == b"/" else base.removesuffix(b"/") + path
    if rest:
        return base.removesuffix(b"/") + (rest if rest.startswith(b"/") else b"/" + rest)
    ends_with_slash = path.endswith(b"/") and (len(path) > 1 or base.endswith(b"/"))
    return (base.removesuffix(b"/") + b"/") if ends_with_slash or base == b"/" else base.removesuffix(b"/")
