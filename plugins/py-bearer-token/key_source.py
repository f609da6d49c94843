"""Keys from a URL: kept, fetched again in the background, and good while the source is down."""

from __future__ import annotations

import functools
import logging
import ssl
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from .keys import Key, UnusableKey, keys_of_set

_log = logging.getLogger("py-bearer-token")

_MOST_BYTES = 1024 * 1024
_MOST_WAITING = 64  # requests that wait for keys at once; more are answered without
_RETRY_SECONDS = 5.0  # without any keys


class NoKeys(Exception):
    """The source has never given keys, or not for too long."""


@dataclass(frozen=True)
class Source:
    """A JWK Set at a URL of https, and how often it is looked at; all times are in seconds."""

    uri: str
    algorithms: tuple[str, ...]
    timeout: float
    """How long a fetch may take, and a request wait for it."""
    lifetime: float
    """The age after which the keys are fetched again, in the background."""
    pause: float
    """The least time between two fetches."""
    max_age: float
    """The age up to which keys are used while the source is down."""


class KeySource:
    """The keys of a source, for all threads and for all configurations that name it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._host = urlsplit(source.uri).hostname
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._keys: tuple[Key, ...] = ()
        self._fetched_at = -float("inf")
        self._tried_at = -float("inf")
        self._under_way: threading.Event | None = None

    def keys(self) -> tuple[Key, ...]:
        """Give the keys at once, or wait for the first ones.

        :raises NoKeys: there are none, and the source gives none.
        """
        age = time.monotonic() - self._fetched_at
        if age > self._source.max_age:
            self._wait(self._start(min(self._source.pause, _RETRY_SECONDS)))
            if time.monotonic() - self._fetched_at > self._source.max_age:
                raise NoKeys
        elif age > self._source.lifetime:
            self._start(self._source.pause)
        return self._keys

    def newer_keys(self) -> tuple[Key, ...]:
        """Give the keys after another fetch, for a token with one that is not known, unless the last was just now."""
        self._wait(self._start(self._source.pause))
        return self._keys

    def prepare(self) -> None:
        """Begin to fetch the first keys, for the requests to come."""
        if not self._keys:
            self._start(self._source.pause)

    def _start(self, pause: float) -> threading.Event | None:
        """Fetch in a thread, or join the fetch that is under way; None if the last one is too recent."""
        with self._lock:
            if self._under_way is not None:
                return self._under_way
            if time.monotonic() - self._tried_at < pause:
                return None
            self._tried_at = time.monotonic()
            done = self._under_way = threading.Event()
        try:
            threading.Thread(target=self._refresh, args=(done,), daemon=True).start()
        except RuntimeError as error:  # no more threads
            _log.warning("the keys of %s were not fetched: %s", self._host, error)
            self._finish(done)
        return done

    def _wait(self, done: threading.Event | None) -> None:
        if done is not None and self._waiting.acquire(blocking=False):
            try:
                done.wait(self._source.timeout)
            finally:
                self._waiting.release()

    def _finish(self, done: threading.Event) -> None:
        with self._lock:
            self._under_way = None
        done.set()

    def _refresh(self, done: threading.Event) -> None:
        try:
            keys, faults = keys_of_set(
                fetch(self._source.uri, self._source.timeout), self._source.algorithms, public=True
            )
            for fault in faults:
                _log.info("of the keys of %s, %s", self._host, fault)
            if not keys:
                raise UnusableKey("it has no key that fits the algorithms")
            with self._lock:
                self._keys, self._fetched_at = tuple(keys), time.monotonic()
        except (OSError, HTTPException, ValueError) as error:
            kept = "those known are used on" if self._keys else "there are none yet"
            _log.warning("the keys of %s could not be fetched (%s); %s", self._host, error, kept)
        finally:
            self._finish(done)


@functools.lru_cache(maxsize=64)
def key_source(source: Source) -> KeySource:
    """Give the one that there is of a source, so that its keys outlive a change of other parts of the configuration."""
    return KeySource(source)


def fetch(uri: str, timeout: float) -> bytes:
    """Read a document from a URL of https, by a proxy where the environment names one.

    A redirect is an error: another place has not been configured, and may not be of https.

    :param timeout: in seconds, for the whole of the body.
    :raises OSError, HTTPException: it cannot be had, or is too long.
    """
    ends = time.monotonic() + timeout
    opener = OpenerDirector()
    https = HTTPSHandler(context=ssl.create_default_context())
    for handler in (ProxyHandler(), https, HTTPErrorProcessor(), HTTPDefaultErrorHandler()):
        opener.add_handler(handler)
    request = Request(uri, headers={"Accept": "application/jwk-set+json, application/json"})
    content = b""
    with opener.open(request, timeout=timeout) as response:
        while piece := response.read1(65536):
            content += piece
            if len(content) > _MOST_BYTES:
                raise OSError(f"it is longer than {_MOST_BYTES} bytes")
            if time.monotonic() > ends:
                raise TimeoutError(f"it takes longer than {timeout} seconds")
    return content
