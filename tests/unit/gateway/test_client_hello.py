"""ClientHello: read in pieces of any size, and told from other bytes."""

from __future__ import annotations

import random
import ssl

import pytest
from kong_pdk.gateway.client_hello import LONGEST_HELLO, ClientHello, NotTls, parse


def hello(name: str | None = "a.test", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """Give the ClientHello of OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["a.test", None])
def test_the_requested_name(name: str | None, version: ssl.TLSVersion) -> None:
    assert parse(hello(name, version)) == ClientHello(name, version == ssl.TLSVersion.TLSv1_3)


def test_later_bytes_are_ignored() -> None:
    assert parse(hello() + b"\x17\x03\x03 anything") == ClientHello("a.test", speaks_tls_1_3=True)


def test_the_rest_is_waited_for() -> None:
    whole = hello()
    assert all(parse(whole[:end]) is None for end in range(len(whole)))


def test_a_hello_in_several_records() -> None:
    message = hello()[5:]
    pieces = [message[start : start + 50] for start in range(0, len(message), 50)]
    records = b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    assert parse(records) == ClientHello("a.test", speaks_tls_1_3=True)
    assert parse(records[:-1]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",  # An alert.
        b"\x16\x02",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # A server's hello.
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",  # An empty hello.
        (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(LONGEST_HELLO))[:LONGEST_HELLO],  # A hello without end.
        b"\x80\x2e\x01\x03\x03",  # A hello in the form of version 2.
        b"\x16\x03\x01\x00\x26\x01\x00\x00\x22" + bytes(34),
    ],
)
def test_bytes_that_are_not_a_hello(data: bytes) -> None:
    with pytest.raises(NotTls):
        parse(data)


def test_any_bytes_have_a_result() -> None:
    """Any bytes are a name, no name, incomplete or not TLS."""
    whole, choice = hello(), random.Random(5)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(choice.randrange(1, 6)):
            data[choice.randrange(len(data))] = choice.randrange(256)
        try:
            found = parse(bytes(data[: choice.randrange(len(data) + 1)]))
        except NotTls:
            continue
        assert found is None or isinstance(found, ClientHello)
    assert len(whole) <= LONGEST_HELLO
