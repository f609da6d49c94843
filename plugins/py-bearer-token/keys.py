"""The keys that verify tokens, each with its algorithms. No message contains a key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import HMACAlgorithm

_SECRETS = {"HS256": 32, "HS384": 48, "HS512": 64}  # the shortest, in bytes: RFC 7518, section 3.2
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}

ALGORITHMS = (*_SECRETS, *_RSA, *_CURVES.values(), "EdDSA")

_RSA_BITS = range(2048, 16385)
_MOST_KEYS = 100


class UnusableKey(ValueError):
    """A key or a set of keys that cannot verify tokens."""


@dataclass(frozen=True)
class Key:
    """A key. It is only used with one of its ``algorithms``, whatever a token says."""

    kid: str | None
    material: Any = field(repr=False)
    algorithms: frozenset[str]


def key_of_text(text: str, kid: str | None, allowed: Iterable[str]) -> Key:
    """Make a key from a public key or certificate in PEM, or from a shared secret.

    :param allowed: the configured algorithms.
    :raises UnusableKey: the text is none of these, is too short, or fits none of the algorithms.
    """
    material: Any = _of_pem(text.encode()) if "-----BEGIN" in text else _of_secret(text.encode())
    return _key(kid, material, None, allowed)


def keys_of_set(text: str | bytes, allowed: Iterable[str], public: bool) -> tuple[list[Key], list[str]]:
    """Read the keys for signatures from a JWK Set.

    :param public: the set comes from a public place and must not have secrets.
    :return: the keys, and a reason for each key that cannot be used.
    :raises UnusableKey: the text is not a JWK Set.
    """
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UnusableKey("it is not a JSON object with a list of keys") from None
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise UnusableKey(f"it has no list of at most {_MOST_KEYS} keys")
    read = [_key_or_fault(entry, allowed, public) for entry in entries]
    faults = [f"key {position} {each}" for position, each in enumerate(read, start=1) if isinstance(each, str)]
    return [each for each in read if isinstance(each, Key)], faults


def _key_or_fault(entry: Any, allowed: Iterable[str], public: bool) -> Key | str | None:
    try:
        return _key_of_entry(entry, allowed, public)
    except UnusableKey as error:
        return str(error)


def _key_of_entry(entry: Any, allowed: Iterable[str], public: bool) -> Key | None:
    """Make a key from a JWK; None if it is for another use."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("kid"), str | None):
        raise UnusableKey("is not a JSON object with a text as kid")
    operations = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    if public and entry.get("kty") == "oct":
        raise UnusableKey("is a secret in a public place")
    algorithm = entry.get("alg")
    if algorithm is not None and algorithm not in ALGORITHMS:
        return None
    try:
        material = jwt.PyJWK({name: value for name, value in entry.items() if name != "alg"}).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, UnsupportedAlgorithm):
        raise UnusableKey("is broken, or of a kind that is not known") from None
    return _key(entry.get("kid"), material, algorithm, allowed)


def _key(kid: str | None, material: Any, algorithm: str | None, allowed: Iterable[str]) -> Key:
    possible = _algorithms_of(material)
    usable = possible & frozenset(allowed) & (frozenset([algorithm]) if algorithm else possible)
    if not usable:
        raise UnusableKey(f"fits none of the algorithms; it is for {', '.join(sorted(possible))}")
    return Key(kid, material, usable)


def _algorithms_of(material: Any) -> frozenset[str]:
    """Give the algorithms that fit a key; a public key never fits those for secrets."""
    if isinstance(material, bytes):
        found = frozenset(name for name, shortest in _SECRETS.items() if len(material) >= shortest)
        if not found:
            raise UnusableKey(f"is a secret of fewer than {min(_SECRETS.values())} bytes")
        return found
    if isinstance(material, rsa.RSAPublicKey):
        if material.key_size not in _RSA_BITS:
            raise UnusableKey(f"is an RSA key of {material.key_size} bits; it needs {_RSA_BITS[0]} to {_RSA_BITS[-1]}")
        return frozenset(_RSA)
    if isinstance(material, ec.EllipticCurvePublicKey) and material.curve.name in _CURVES:
        return frozenset([_CURVES[material.curve.name]])
    if isinstance(material, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset(["EdDSA"])
    raise UnusableKey("is not a public key of a known kind; a private key does not belong here")


def _of_pem(text: bytes) -> Any:
    try:
        if b"-----BEGIN CERTIFICATE" in text:
            return load_pem_x509_certificate(text).public_key()
        return load_pem_public_key(text)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableKey("is not the PEM of a public key or a certificate") from None


def _of_secret(secret: bytes) -> bytes:
    if secret.startswith(b"{vault://"):  # anybody could know this text
        raise UnusableKey("is a reference to a vault that Kong has not resolved")
    try:
        return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except (jwt.InvalidKeyError, ValueError):  # a key in another format, which is not a secret
        raise UnusableKey("is not a secret but a key in a form that is not known; give a PEM or a JWK Set") from None
