"""The certificates of the TLS listeners: the configured ones, or a self-signed one."""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kong_pdk.gateway.gateway_settings import Settings, SettingsError

CERTIFICATE = "kong-default.crt"
KEY = "kong-default.key"
_LIFETIME = datetime.timedelta(days=20 * 365)


def default_certificate(prefix: Path) -> tuple[Path, Path]:
    """The files of the self-signed certificate and its key in ``<prefix>/ssl``, created if they do not exist.

    The key's file has mode 0600. Raises OSError if the folder is not writable.
    """
    folder = prefix / "ssl"
    certificate, key = folder / CERTIFICATE, folder / KEY
    if not (certificate.is_file() and key.is_file()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate_pem, key_pem = _self_signed()
        _write_atomically(key, key_pem, 0o600)
        _write_atomically(certificate, certificate_pem, 0o644)
    return certificate, key


def server_context(settings: Settings) -> ssl.SSLContext:
    """The TLS context of the listeners.

    Raises :class:`~kong_pdk.gateway.gateway_settings.SettingsError` if a certificate cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificates(context, settings)
    return context


def load_certificates(context: ssl.SSLContext, settings: Settings) -> None:
    """Use the certificates of the settings for all later handshakes.

    Raises :class:`~kong_pdk.gateway.gateway_settings.SettingsError` if a certificate cannot be used.
    """
    if len(settings.ssl_cert) != len(settings.ssl_cert_key):
        raise SettingsError(
            "ssl_cert and ssl_cert_key must name the same number of files; set both KONG_SSL_CERT and KONG_SSL_CERT_KEY"
        )
    pairs = list(zip(settings.ssl_cert, settings.ssl_cert_key, strict=True))
    for certificate, key in pairs or [_default_paths(settings.prefix)]:
        _load(context, certificate, key)


def _default_paths(prefix: Path) -> tuple[str, str]:
    try:
        certificate, key = default_certificate(prefix)
    except OSError as error:
        raise SettingsError(
            f"prefix: cannot write a certificate to {prefix / 'ssl'} ({error.strerror or error}); set KONG_PREFIX to a "
            "folder that can be written, or KONG_SSL_CERT and KONG_SSL_CERT_KEY"
        ) from error
    return str(certificate), str(key)


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    for name, path in (("ssl_cert", certificate), ("ssl_cert_key", key)):
        if not Path(path).is_file():
            raise SettingsError(f"{name}: no such file at {path}; correct KONG_{name.upper()}")
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(
            f"ssl_cert: {certificate} and {key} are not a certificate and its key ({error}); "
            "correct KONG_SSL_CERT and KONG_SSL_CERT_KEY"
        ) from error


def _self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Kong"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "IT Department"),
            x509.NameAttribute(NameOID.COMMON_NAME, "localhost"),
        ]
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key_pem


def _write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Write a file atomically, since two nodes may share a prefix for a short time."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as target:
            target.write(content)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
