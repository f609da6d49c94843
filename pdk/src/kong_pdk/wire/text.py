"""Converts between Kong's strings, which are bytes, and Python's text, without loss."""

from __future__ import annotations


def decode(value: bytes) -> str:
    """Decode UTF-8; other bytes become surrogates, from which :func:`encode` makes the same bytes."""
    return value.decode("utf-8", "surrogateescape")


def encode(value: str) -> bytes:
    """Encode text as UTF-8; surrogates of :func:`decode` become their bytes again."""
    return value.encode("utf-8", "surrogateescape")
