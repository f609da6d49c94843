"""Keys from a URL: cached, fetched again in the background, and valid while the source is down."""

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
_MOST_WAITING = 64  # requests that wait for keys at the same time; further requests do not wait
_RETRY_SECONDS = 5.0  # without any keys


class NoKeys(Exception):
    """There are no keys, or they are too old."""


@dataclass(frozen=True)
class Source:
    """A JWK Set at an https URL, and the times of its fetches, in seconds."""

    uri: str
    algorithms: tuple[str, ...]
    timeout: float
    """How long a fetch may take, and how long a request waits for it."""
    lifetime: float
    """The age after which the keys are fetched again, in the background."""
    pause: float
    """The least time between two fetches."""
    max_age: float
    """The age up to which keys are used while the source is down."""


class KeySource:
    """The keys of a source, shared by all threads and all configurations with this source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._host = urlsplit(source.uri).hostname
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._keys: tuple[Key, ...] = ()
        self._fetched_at = -float("inf")
        self._tried_at = -float("inf")
        self._running_fetch: threading.Event | None = None

    def keys(self) -> tuple[Key, ...]:
        """Give the keys; wait only for the first ones.

        :raises NoKeys: there are no keys, and the fetch brings none.
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
        """Give the keys for a token with an unknown key: after another fetch, unless the last one was just now."""
        self._wait(self._start(self._source.pause))
        return self._keys

    def prepare(self) -> None:
        """Start to fetch the first keys."""
        if not self._keys:
            self._start(self._source.pause)

    def _start(self, pause: float) -> threading.Event | None:
        """Start a fetch in a thread, or give the running one; None if the last one is too recent."""
        with self._lock:
            if self._running_fetch is not None:
                return self._running_fetch
            if time.monotonic() - self._tried_at < pause:
                return None
            self._tried_at = time.monotonic()
            done = self._running_fetch = threading.Event()
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
            self._running_fetch = None
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
    """Give the shared object of a source, so that its keys survive a change of the plugin's configuration."""
    return KeySource(source)


def fetch(uri: str, timeout: float) -> bytes:
    """Read a document from an https URL, through the proxy of the environment if there is one.

    A redirect is an error: its target is not configured and may not be https.

    :param timeout: in seconds, for the whole body.
    :raises OSError, HTTPException: the document cannot be fetched, or is too long.
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
