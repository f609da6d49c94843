"""The HTTP client for the collector, which gets the batches of entries."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry, Timeout, parse_url

CONTENT_TYPE = "application/x-ndjson"

_MOST_ANSWER_BYTES = 65536
# Too slow, too early, too many requests: the same batch may be accepted later. So it may after every 5xx.
_RETRY_STATUSES = frozenset({408, 425, 429})
_TOO_LARGE = 413


@dataclass(frozen=True)
class Outcome:
    """The result of sending a batch; an empty ``reason`` means that the collector has accepted it."""

    reason: str = ""
    again: bool = False
    too_large: bool = False
    wait_seconds: float = 0.0


class Collector:
    """Sends batches by ``POST``, on a persistent connection."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """:param config: the plugin's configuration.

        :raises ValueError: the endpoint, a header or the file of certificates is invalid.
        """
        self._url = config["endpoint"]
        url = parse_url(self._url)
        if not url.host:
            raise ValueError(f"the endpoint {self._url!r} names no host")
        self.name = f"{url.scheme}://{url.netloc}{url.path or ''}"
        self._gzip = bool(config.get("gzip"))
        self._headers = {"content-type": CONTENT_TYPE, **(config.get("headers") or {})}
        for name, value in self._headers.items():
            if not value.isprintable():
                raise ValueError(f"the value of the header {name} has control characters")
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        if (ca_file := config.get("ca_file")) and not Path(ca_file).is_file():
            raise ValueError(f"there is no file {ca_file} with certificates")
        verified = config.get("tls_verify", True)
        if not verified:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._seconds = float(config["timeout_seconds"])
        self._pool = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED" if verified else "CERT_NONE", ca_certs=ca_file, retries=False
        )

    def post(self, lines: Sequence[bytes], most_seconds: float | None = None) -> Outcome:
        """Send lines once, without a retry.

        :param most_seconds: a time-out in seconds, if it is shorter than that of the configuration.
        """
        body = b"".join(lines)
        seconds = self._seconds if most_seconds is None else min(self._seconds, max(most_seconds, 0.1))
        try:
            answer = self._pool.request(
                "POST", self._url, body=gzip.compress(body, 6) if self._gzip else body, headers=self._headers,
                timeout=Timeout(total=seconds), retries=False, redirect=False, preload_content=False,
            )  # fmt: skip
            try:
                return _outcome(answer)
            finally:
                _finish(answer)
        except (HTTPError, OSError, ValueError) as error:
            return Outcome(_reason(error), again=True)


def _outcome(answer: urllib3.BaseHTTPResponse) -> Outcome:
    if 200 <= answer.status < 300:
        return Outcome()
    again = answer.status in _RETRY_STATUSES or answer.status >= 500
    return Outcome(f"status {answer.status}", again, answer.status == _TOO_LARGE, _wait(answer) if again else 0.0)


def _wait(answer: urllib3.BaseHTTPResponse) -> float:
    try:
        return float(Retry().get_retry_after(answer) or 0)
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


def _finish(answer: urllib3.BaseHTTPResponse) -> None:
    """Return the connection to the pool, or close it if the rest of the answer is long."""
    try:
        rest = answer.read(_MOST_ANSWER_BYTES, decode_content=False)
    except (HTTPError, OSError):
        answer.close()
        return
    if len(rest) < _MOST_ANSWER_BYTES:
        answer.release_conn()
    else:
        answer.close()


def _reason(error: Exception) -> str:
    """Give the reason without the URL, which may contain a secret."""
    cause = error.__cause__ or error.__context__ or error
    text = getattr(cause, "strerror", None) or str(cause)
    return f"{type(error).__name__}: {text}".splitlines()[0]
