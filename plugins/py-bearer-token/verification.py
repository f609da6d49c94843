"""Verifies tokens: first the signature, then the claims. Messages to clients contain nothing of the token."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jwt
from jwt.types import Options

from .key_source import KeySource
from .keys import Key

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MOST_TRIES = 10  # keys that are tried for a token without a kid

_DESCRIPTIONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "The token has expired"),
    (jwt.ImmatureSignatureError, "The token is not valid yet"),
    (jwt.InvalidAudienceError, "The token is for another audience"),
    (jwt.InvalidIssuerError, "The token is of another issuer"),
)
_MALFORMED = "The token is malformed"


class InvalidToken(Exception):
    """The token is not accepted; the message is for the client."""


class Verifier:
    """The configured keys, algorithms and rules for claims."""

    def __init__(self, config: dict[str, Any], keys: Sequence[Key], source: KeySource | None) -> None:
        self._keys = tuple(keys)
        self._source = source
        self._algorithms = frozenset(config["algorithms"])
        self._most_bytes = config["max_token_bytes"]
        self._expected: dict[str, Any] = {
            "audience": config.get("audience") or None,
            "issuer": config.get("issuer") or None,
            "leeway": config["leeway"],
        }
        required = [*(["exp"] if config["require_exp"] else []), *config["required_claims"]]
        self._options: Options = {"require": required, "enforce_minimum_key_length": True}

    def claims(self, token: str) -> dict[str, Any]:
        """Give the claims of a token.

        :raises InvalidToken: the token is not valid.
        :raises NoKeys: there are no keys.
        """
        if len(token) > self._most_bytes or not _TOKEN.fullmatch(token):
            raise InvalidToken(_MALFORMED)
        algorithm, kid = self._header(token)
        tried = False
        for key in self._candidates(algorithm, kid):
            if (claims := self._decode(token, key, algorithm)) is not None:
                return claims
            tried = True
        raise InvalidToken("The signature is not valid" if tried else "The key of the token is not known")

    def _decode(self, token: str, key: Key, algorithm: str) -> dict[str, Any] | None:
        """Give the claims; None if the signature is not from this key.

        :param algorithm: the algorithm of the token, which is configured and fits the key.
        """
        try:
            return jwt.decode(token, key.material, [algorithm], self._options, **self._expected)
        except jwt.InvalidSignatureError:
            return None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise InvalidToken(_description(error)) from None

    def _header(self, token: str) -> tuple[str, str | None]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidToken(_MALFORMED) from None
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise InvalidToken("The algorithm of the token is not allowed")
        if "crit" in header:  # names extensions that must be understood
            raise InvalidToken(_MALFORMED)
        return algorithm, header.get("kid")

    def _candidates(self, algorithm: str, kid: str | None) -> Iterator[Key]:
        """Give the configured keys, then those of the source: a configured key without a kid may be the wrong one."""
        found = _fitting(self._keys, algorithm, kid)
        yield from found
        if self._source is not None and (kid is None or kid not in [key.kid for key in found]):
            yield from (
                _fitting(self._source.keys(), algorithm, kid) or _fitting(self._source.newer_keys(), algorithm, kid)
            )


def _fitting(keys: Iterable[Key], algorithm: str, kid: str | None) -> list[Key]:
    """Give the keys with a kid, or else the keys without one; all keys for a token without a kid."""
    fitting = [key for key in keys if algorithm in key.algorithms]
    if kid is not None:
        named = [key for key in fitting if key.kid == kid]
        fitting = named or [key for key in fitting if key.kid is None]
    return fitting[:_MOST_TRIES]


def _description(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"The token lacks the claim {error.claim}"
    return next((text for kind, text in _DESCRIPTIONS if isinstance(error, kind)), _MALFORMED)
