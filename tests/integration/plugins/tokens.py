"""Valid and forged keys and tokens for the tests of ``plugins/py-bearer-token``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

SECRET = "a secret of the tests, thirty-two bytes or more"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()

ISSUER, AUDIENCE = "https://issuer.test/", "orders"


def pem(private: Any) -> str:
    """Give the public half of a key."""
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(private: Any) -> str:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def private_jwk(private: rsa.RSAPrivateKey) -> dict[str, Any]:
    data = jwt.get_algorithm_by_name("RS256").to_jwk(private, as_dict=True)
    return {name: value for name, value in data.items() if name != "key_ops"}


def certificate(private: Any) -> str:
    """Give a certificate of 127.0.0.1, signed with the key itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer.test")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def jwk(private: Any, kid: str, **more: str) -> dict[str, Any]:
    """Give the public half of a key as an entry of a JWK Set."""
    algorithm = "RS256" if isinstance(private, rsa.RSAPrivateKey) else "ES256"
    data = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
    return {**data, "kid": kid, **more}


def claims(**more: Any) -> dict[str, Any]:
    """Give valid claims; None omits a claim."""
    now = int(time.time())
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 300, **more}
    return {name: value for name, value in given.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", header: dict[str, Any] | None = None, **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm, header)


def segment(data: Any) -> str:
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def forged(header: Any, payload: Any, secret: bytes = b"") -> str:
    """Give a token that no library would make, with an HMAC of SHA-256."""
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
