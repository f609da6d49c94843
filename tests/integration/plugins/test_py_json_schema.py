"""``plugins/py-json-schema``: request bodies against a JSON Schema."""

from __future__ import annotations

import json

import pytest
from integration.plugins.nodes import ROOT

ORDER = json.dumps(
    {
        "type": "object",
        "required": ["id", "items"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "pattern": "^[a-z]+-[0-9]+$"},
            "note": {"type": "string", "maxLength": 200000},
            "a/b~c": {"type": "integer"},
            "items": {"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/item"}},
            "child": {"$ref": "#"},
        },
        "$defs": {
            "item": {
                "type": "object",
                "properties": {"count": {"type": "integer", "minimum": 1}},
                "patternProperties": {"^(x+x+)+y$": {"type": "null"}},
                "additionalProperties": False,
            }
        },
    }
)

KONG = f"""
_format_version: "3.0"
services:
- name: demo
  url: http://upstream:9000
  routes:
  - name: orders
    paths: ["/orders"]
    plugins:
    - name: py-json-schema
      config: {{schema: '{ORDER}'}}
  - name: small
    paths: ["/small"]
    plugins:
    - name: py-json-schema
      config: {{schema: "{{}}", max_body_bytes: 100, max_depth: 3, max_values: 8, max_errors: 2}}
  - name: list
    paths: ["/list"]
    plugins:
    - name: py-json-schema
      config: {{schema: '{{"items": {{"type": "integer"}}}}', max_errors: 2}}
  - name: other
    paths: ["/other"]
    plugins:
    - name: py-json-schema
      config:
        schema: '{{"type": "object"}}'
        allow_empty_body: true
        verbose_response: false
        methods: [POST, DELETE]
        content_types: [application/json, application/merge-patch+json]
  - name: broken
    paths: ["/broken"]
    plugins:
    - name: py-json-schema
      config: {{schema: '{{"type": "strnig"}}'}}
"""
JSON = ("Content-Type", "application/json")
GOOD = b'{"id": "a-1", "items": [{"count": 1}, {"count": 2}]}'


@pytest.fixture
def node(gateway):
    return gateway("py-json-schema", configuration=KONG)


def answer(reply):
    assert reply.values("content-type") == ["application/json; charset=utf-8"]
    return json.loads(reply.body)


def errors(reply):
    assert (reply.status, answer(reply)["message"]) == (400, "Request body does not fit the schema")
    return [(error["path"], error["keyword"], error["reason"]) for error in answer(reply)["errors"]]


def reason(reply):
    assert (reply.status, answer(reply)["message"]) == (400, "Request body is not valid JSON")
    [error] = answer(reply)["errors"]
    return error


def test_a_valid_body_reaches_the_service_unchanged(node):
    for method in ("POST", "PUT", "PATCH"):
        reply = node.request(method, "/orders", [JSON], GOOD)
        assert (reply.status, reply.body) == (200, b"from the service")
    assert [(got.method, got.body) for got in node.service.received] == [
        ("POST", GOOD), ("PUT", GOOD), ("PATCH", GOOD)
    ]  # fmt: skip
    assert node.trouble() == []


def test_an_invalid_body_is_a_400_with_every_place_and_reason(node):
    body = {"id": "A1", "a/b~c": "x", "items": [{"count": 0}, {"y": 1}, {"y": 1}], "child": {"id": "a-1"}, "q": 1}
    reply = node.request("POST", "/orders", [JSON], json.dumps(body).encode())
    assert sorted(errors(reply)) == [
        ("", "additionalProperties", 'has properties that are not allowed: "q"'),
        ("/a~1b~0c", "type", 'must satisfy "type": "integer"'),
        ("/child", "required", 'lacks the property "items"'),
        ("/id", "pattern", 'must satisfy "pattern": "^[a-z]+-[0-9]+$"'),
        ("/items", "uniqueItems", 'must satisfy "uniqueItems": true'),
        ("/items/0/count", "minimum", 'must satisfy "minimum": 1'),
        ("/items/1", "additionalProperties", 'has properties that are not allowed: "y"'),
        ("/items/2", "additionalProperties", 'has properties that are not allowed: "y"'),
    ]
    assert node.service.received == []
    assert node.trouble() == []


def test_the_list_of_errors_has_the_configured_length_and_no_values_of_the_client(node):
    reply = node.request("POST", "/list", [JSON], json.dumps(["secret"] * 800).encode())
    assert [path for path, _, _ in errors(reply)] == ["/0", "/1"]
    assert b"secret" not in reply.body


def test_without_verbose_response_the_schema_is_not_shown(node):
    reply = node.request("POST", "/other", [JSON], b"[]")
    assert (reply.status, answer(reply)) == (400, {"message": "Request body does not fit the schema"})
    reply = node.request("POST", "/other", [JSON], b"[")
    assert (reply.status, answer(reply)) == (400, {"message": "Request body is not valid JSON"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a": 1,\n  b}', {"line": 2, "column": 3, "reason": "Expecting property name enclosed in double quotes"}),
        (b'{"a": 1} {}', {"line": 1, "column": 10, "reason": "Extra data"}),
        (b'{"a": "\n"}', {"line": 1, "column": 8, "reason": "Invalid control character at"}),
        (b'{"id": 1, "x": {"id": 1, "id": 2}}', {"reason": 'the name "id" comes twice in one object'}),
        (b'{"\\u0069d": 1, "id": 2}', {"reason": 'the name "id" comes twice in one object'}),
        (b'{"a": NaN}', {"reason": "NaN is not JSON"}),
        (b"[-Infinity]", {"reason": "-Infinity is not JSON"}),
        (b"[1e400]", {"reason": "the number 1e400 is too large"}),
        (b"9" * 6000, {"reason": f"the number {'9' * 100}... is too large"}),
        (b'["\\ud800"]', {"reason": "it has half of a surrogate pair"}),
        (b'["\xff"]', {"reason": "the byte at offset 2 is not UTF-8"}),
        ("[1]".encode("utf-16"), {"reason": "the byte at offset 0 is not UTF-8"}),
        (b"[" * 5000, None),
        (b"[" * 4000 + b"]" * 4000, None),
    ],
)  # fmt: skip
def test_a_body_that_is_not_strict_json_is_a_400_with_the_place(node, body, said):
    reply = node.request("POST", "/orders", [JSON], body)
    if said is None:  # what is found first, the depth or the end of the text, depends on Python's version
        assert (reply.status, node.service.received) == (400, [])
    else:
        assert reason(reply) == said
    assert node.request("POST", "/orders", [JSON], GOOD).status == 200
    assert node.trouble() == []


def test_a_byte_order_mark_is_not_json(node):
    assert "BOM" in reason(node.request("POST", "/orders", [JSON], b"\xef\xbb\xbf" + GOOD))["reason"]


@pytest.mark.parametrize("text", ["a-1\n", "\na-1", "a-1\r\n", "a-\u0661"])
def test_a_pattern_matches_neither_a_newline_at_the_end_nor_digits_of_other_scripts(node, text):
    body = json.dumps({"id": text, "items": []}).encode()
    assert [path for path, _, _ in errors(node.request("POST", "/orders", [JSON], body))] == ["/id"]


def test_a_pattern_is_fast_on_a_long_text(node):
    name = "x" * 6000
    found = errors(node.request("POST", "/orders", [JSON], json.dumps({"id": "a-1", "items": [{name: 1}]}).encode()))
    assert found == [
        ("/items/0", "additionalProperties", f'has properties that are not allowed: "{"x" * 100}..."')
    ]  # fmt: skip


def test_the_limits_hold_to_the_byte_the_level_and_the_value(node):
    def send(body):
        reply = node.request("POST", "/small", [JSON], body)
        return reply.status if reply.status == 200 else (reply.status, answer(reply)["message"])

    assert send(b'"' + b"x" * 98 + b'"') == 200
    assert send(b'"' + b"x" * 99 + b'"') == (413, "Request body is longer than 100 bytes")
    assert send(b'{"a": [[0]]}') == 200
    assert send(b'{"a": [[[0]]]}') == (400, "Request body is nested more than 3 levels deep")
    assert send(b"[1, 2, 3, 4, 5, 6, 7]") == 200
    assert send(b"[1, 2, 3, 4, 5, 6, 7, 8]") == (413, "Request body has more than 8 values")


def test_a_body_without_a_length_has_the_same_limit(node):
    assert node.request("POST", "/small", [JSON], b"[1]", chunked=True).status == 200
    reply = node.request("POST", "/small", [JSON], b" " * 100 + b"1", chunked=True)
    assert (reply.status, answer(reply)["message"]) == (413, "Request body is longer than 100 bytes")


def test_a_length_that_is_too_large_is_refused_before_the_body_is_read(node):
    for length in ("1048577", "9" * 18):
        connection_reply = node.request("POST", "/orders", [JSON, ("Content-Length", length)])
        assert (connection_reply.status, answer(connection_reply)["message"]) == (
            413, "Request body is longer than 1048576 bytes"
        )  # fmt: skip


def test_a_body_of_100_kib_is_checked_completely(node, protocol):
    good = json.dumps({"id": "a-1", "items": [], "note": "n" * 100 * 1024}).encode()
    bad = json.dumps({"note": "n" * 100 * 1024, "id": "a-1"}).encode()
    if protocol == "msgpack":  # Kong gives bodies over 8 KiB over ProtoBuf:1 alone, and fails closed here
        assert node.request("POST", "/orders", [JSON], good).status == 500
        assert node.service.received == []
        return
    assert node.request("POST", "/orders", [JSON], good).status == 200
    assert [got.body for got in node.service.received] == [good]
    assert errors(node.request("POST", "/orders", [JSON], bad)) == [("", "required", 'lacks the property "items"')]
    # nginx logs each body that is larger than its buffer.
    assert all("a client request body is buffered to a temporary file" in line for line in node.trouble())


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Content-Type", "text/plain")],
        [("Content-Type", "application/jsonp")],
        [("Content-Type", "application/json; charset=utf-16")],
        [("Content-Type", "application/json; a=b; Charset=latin-1")],
        [JSON, ("Content-Type", "text/plain")],
        [JSON, JSON],
        [JSON, ("Content-Encoding", "gzip")],
    ],
)
def test_another_type_charset_or_coding_is_a_415(node, headers):
    assert node.request("POST", "/orders", headers, GOOD).status == 415
    assert node.service.received == []


@pytest.mark.parametrize(
    "kind", ["APPLICATION/JSON", "application/json ; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_a_type_is_compared_as_http_says(node, kind):
    headers = [("Content-Type", kind), ("Content-Encoding", "identity")]
    assert node.request("POST", "/orders", headers, GOOD).status == 200


def test_other_types_and_methods_can_be_configured(node):
    merge = ("Content-Type", "application/merge-patch+json")
    assert node.request("POST", "/other", [merge], b"{}").status == 200
    assert node.request("DELETE", "/other", [merge], b"[]").status == 400
    assert node.request("PATCH", "/other", [merge], b"[]").status == 200
    assert node.request("GET", "/orders").status == 200


def test_an_empty_body_is_refused_unless_it_is_allowed(node):
    reply = node.request("POST", "/orders", [JSON])
    assert (reply.status, answer(reply)) == (400, {"message": "Request body is empty"})
    assert node.request("POST", "/orders", [JSON], chunked=True).status == 400
    assert node.request("POST", "/other").status == 200


def test_a_type_cannot_hide_behind_a_thousand_headers(node):
    headers = [(f"X-{number}", "1") for number in range(1100)]
    reply = node.request("POST", "/orders", [JSON, *headers, ("Content-Type", "text/plain")], GOOD)
    assert (reply.status, node.service.received) == (431, [])


def test_a_broken_schema_is_a_500_and_a_line_in_the_log_and_other_routes_work(node):
    reply = node.request("POST", "/broken", [JSON], b'"x"')
    assert (reply.status, node.service.received) == (500, [])
    assert "the schema breaks the rules of JSON Schema at $.type" in node.wait_for_line("strnig")
    assert node.request("POST", "/orders", [JSON], GOOD).status == 200


REFUSED = [
    ("{", "the schema is not valid JSON: Expecting property name"),
    ('{"type": "object", "type": "array"}', 'the name "type" comes twice'),
    ("[]", "must be a JSON object"),
    ({"$schema": "https://example.com/mine"}, "unknown \"$schema\" 'https://example.com/mine'"),
    ({"$schema": 7}, 'unknown "$schema" 7'),
    ({"type": "strnig"}, "breaks the rules of JSON Schema at $.type"),
    ({"$ref": "https://example.com/schema.json"}, 'no part "https://example.com/schema.json"'),
    ({"$ref": "file:///etc/passwd"}, 'no part "file:///etc/passwd"'),
    ({"properties": {"a": {"$ref": "#/$defs/none"}}}, 'no part "#/$defs/none"'),
    ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "no part"),
    ({"$ref": "#"}, "refers to itself without an end"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "refers to itself without an end"),
    ({"pattern": "(?=a)b"}, "the pattern '(?=a)b', which RE2 does not know"),
    ({"patternProperties": {"(a)\\1": {}}}, "which RE2 does not know"),
    ({"$ref": "#/components/a", "components": {"a": {"pattern": "("}}}, "which RE2 does not know"),
    ({"items": {"$schema": "http://json-schema.org/draft-07/schema#"}}, 'has a "$schema" inside'),
    ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "cannot be bounded together"),
]


@pytest.mark.parametrize(("schema", "said"), REFUSED)
def test_a_schema_that_could_fail_later_is_refused_at_once(instance, schema, said):
    with pytest.raises(ValueError) as raised:
        instance("py-json-schema", schema=schema if isinstance(schema, str) else json.dumps(schema))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


DRAFTS = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]


SELF = {"type": "object", "properties": {"a": {"$ref": "#"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [SELF, {**SELF, "required": ["b"]}]},
        {"anyOf": [{**SELF, "not": {"required": ["end"]}}, {**SELF, "minProperties": 1}]},
        {"allOf": [{"properties": {"a": {"$ref": "#"}, "end": {}}}], "unevaluatedProperties": False},
        {"$schema": "https://json-schema.org/draft/2019-09/schema", "contains": {"$recursiveRef": "#"},
         "items": {"$recursiveRef": "#"}},
        {"$dynamicAnchor": "any", "contains": {"$dynamicRef": "#any"}, "items": {"$dynamicRef": "#any"}},
    ],
)  # fmt: skip
def test_alternatives_that_double_with_each_level_are_bounded(instance, schema):
    plugin = instance("py-json-schema", schema=json.dumps(schema), max_references=1000)
    value = {} if "contains" not in schema else [0]
    for _ in range(30):
        value = {"a": value, "end": 1} if isinstance(value, dict) else [value]
    with pytest.raises(Exception, match="needs more than 1000 references") as raised:
        plugin._check({"content-type": ["application/json"]}, Request(json.dumps(value).encode()))
    assert raised.value.status == 413


class Request:
    """Kong's API where a plugin only asks for the body."""

    def __init__(self, body):
        self.request = self
        self.get_raw_body = lambda: body


def fits(plugin, value):
    return plugin._validator.is_valid(value)


@pytest.mark.parametrize("draft", DRAFTS)
def test_every_draft_bounds_the_keywords_behind_references_too(instance, draft):
    schema = {
        "$schema": draft,
        "definitions": {"name": {"pattern": "^(a+)+\\u0062$"}},
        "properties": {"name": {"$ref": "#/definitions/name"}, "inner": {"$ref": "#"}},
        "additionalProperties": False,
    }
    plugin = instance("py-json-schema", schema=json.dumps(schema))
    assert fits(plugin, {"inner": {"inner": {"name": "aab"}}})
    assert not fits(plugin, {"inner": {"inner": {"name": "aab\n"}}})
    assert not fits(plugin, {"inner": {"inner": {"name": "a" * 100000}}})
    assert not fits(plugin, {"inner": {"other": 1}})


def test_the_dialects_differ_where_the_drafts_do(instance):
    pair = {"items": [{"type": "integer"}, {"type": "string"}]}
    plugin = instance("py-json-schema", schema=json.dumps({"$schema": DRAFTS[2], **pair}))
    assert fits(plugin, [1, "a"])
    assert not fits(plugin, ["a", 1])
    with pytest.raises(ValueError, match=r"breaks the rules of JSON Schema at \$\.items"):
        instance("py-json-schema", schema=json.dumps(pair))


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, 1.0], False), ([0.0, -0.0], False), ([1, True], True), ([0, False], True), ([1, "1"], True),
        ([[1], [1.0]], False), ([[1], [True]], True), ([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], False),
        ([{"a": 1}, {"a": 2}], True), ([None, None], False), ([[], {}], True), (["array", ["array"], []], True),
        ([number * (2**61 - 1) for number in range(10000)], True),
    ],
)  # fmt: skip
def test_items_are_unique_as_json_counts_it(instance, items, unique):
    assert fits(instance("py-json-schema", schema='{"uniqueItems": true}'), items) is unique


@pytest.mark.parametrize(
    ("value", "any_of", "one_of"), [("a", True, True), (1, True, True), (7, True, False), (None, False, False)]
)
def test_alternatives(instance, value, any_of, one_of):
    kinds = [{"type": "string"}, {"type": "integer"}, {"minimum": 5, "type": "number"}]
    assert fits(instance("py-json-schema", schema=json.dumps({"anyOf": kinds})), value) is any_of
    assert fits(instance("py-json-schema", schema=json.dumps({"oneOf": kinds})), value) is one_of


def test_a_recursive_schema_accepts_the_deepest_body(instance):
    tree = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"allOf": [
        {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}]}}}}}  # fmt: skip
    plugin = instance("py-json-schema", schema=json.dumps(tree))
    value = None
    for _ in range(64):
        value = {"next": value}
    assert fits(plugin, value)


def test_the_page_s_configuration_works_as_described(default_gateway, snippet):
    node = default_gateway("py-json-schema", configuration=snippet("docs/plugins/py-json-schema.md", "py-json-schema"))
    reply = node.request("POST", "/orders", [JSON], b'{"id": "a-1", "items": [{"count": 0}]}')
    shown = 'curl -i -H \'Content-Type: application/json\' -d \'{"id": "a-1", "items": [{"count": 0}]}\''
    page = (ROOT / "docs" / "plugins" / "py-json-schema.md").read_text()
    assert shown in page
    assert f"\n{reply.body.decode()}\n" in page
    assert node.request("POST", "/orders", [JSON], b'{"id": "a-1", "items": [{"count": 1}]}').status == 200
