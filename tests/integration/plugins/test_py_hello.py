"""``plugins/py-hello.py``, the first example plugin."""

from __future__ import annotations

from integration.plugins.conftest import Gateway, Snippet


def test_it_greets_in_a_header_of_the_response(default_gateway: Gateway, snippet: Snippet) -> None:
    node = default_gateway("py-hello", configuration=snippet("docs/plugins/py-hello.md", "py-hello"))
    reply = node.request("GET", "/path?a=1", [("Host", "example.test")])

    assert (reply.status, reply.body) == (200, b"from the service")
    assert reply.values("x-hello-from-python") == ["Python says good day to example.test"]
    assert reply.values("x-python-pid")[0].isdecimal()
    assert [received.path for received in node.service.received] == ["/path?a=1"]
    assert node.trouble() == []
