"""``plugins/py-hello.py``, the example of Kong's documentation."""

from __future__ import annotations

KONG = """
_format_version: "3.0"
services:
- name: demo
  url: http://upstream:9000
  routes:
  - name: demo
    paths: ["/"]
    plugins:
    - name: py-hello
      config: {message: good day}
"""


def test_it_greets_in_a_header_of_the_response(gateway):
    node = gateway("py-hello", configuration=KONG)
    reply = node.request("GET", "/path?a=1", [("Host", "example.test")])
    assert (reply.status, reply.body) == (200, b"from the service")
    assert reply.values("x-hello-from-python") == ["Python says good day to example.test"]
    assert [received.path for received in node.service.received] == ["/path?a=1"]
    assert node.trouble() == []
