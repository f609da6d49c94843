"""Strings of the wire: Kong's are bytes, Python's are text, and none may be lost between."""

from __future__ import annotations


def decode(value: bytes) -> str:
    """Make text of bytes; those that are not UTF-8 become surrogates and survive :func:`encode`."""
    return value.decode("utf-8", "surrogateescape")


def encode(value: str) -> bytes:
    """Make bytes of text, those again that :func:`decode` was given."""
    return value.encode("utf-8", "surrogateescape")
