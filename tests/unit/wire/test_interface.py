"""The interface file: its methods, and our extension of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kong_pdk import interface_file
from kong_pdk.wire.interface import EXTENDED, STOCK, as_text, extend, is_extended, read, rpc_name, saved_for_log
from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.wire_errors import InterfaceError, UnknownMethod

FILE = Path(__file__).parents[3] / "docker/embedded/files/usr/local/kong/include/kong/pluginsocket.proto"
STOCK_TEXT = FILE.read_text("utf-8")
SMALL = "service Kong {\n  rpc Client_GetIp(google.protobuf.Empty) returns (String);\n}\n"


def test_kong_s_own_file_names_its_74_methods():
    assert len(STOCK) == 74
    assert read(STOCK_TEXT) == STOCK


def test_the_extended_file_has_all_methods_and_keeps_its_own():
    extended = extend(STOCK_TEXT)
    assert read(extended) == EXTENDED
    assert "Appended by kong-python" in extended
    end = STOCK_TEXT.rindex("}")
    assert extended.startswith(STOCK_TEXT[:end]) and extended.endswith(STOCK_TEXT[end:])


def test_extending_twice_changes_nothing():
    extended = extend(STOCK_TEXT)
    assert extend(extended) == extended


def test_an_older_extension_gets_the_missing_methods():
    line = next(line for line in extend(STOCK_TEXT).splitlines() if "Vault_Get(" in line)
    older = extend(STOCK_TEXT).replace(f"{line}\n", "")
    assert read(older).missing() == ("kong.vault.get",)
    assert read(extend(older)) == EXTENDED


def test_a_stock_interface_lacks_just_the_extension():
    assert set(STOCK.missing()) == {method.name for method in METHODS.values() if method.extended}
    assert EXTENDED.missing() == ()


@pytest.mark.parametrize("method", [method for method in METHODS.values() if "/" not in method.name], ids=str)
def test_kong_derives_the_same_name(method):
    """Without the option, Kong derives the name from that of the rpc."""
    text = f"service Kong {{ rpc {rpc_name(method)}({method.input}) returns ({method.output}); }}"
    assert method.name in read(text)


@pytest.mark.parametrize(
    "line",
    [
        "rpc X(Empty) returns (String);",
        "rpc X ( .google.protobuf.Empty ) returns\n(kong_plugin_protocol.String) ;",
        'rpc X(Empty) returns (String) { option (MethodName) = "kong.x"; }',
        "rpc X(Empty) returns (String) {\n  option (kong_plugin_protocol.MethodName) = 'kong.x';\n}",
        "rpc X(Empty) returns (String); // rpc Y(Empty) returns (String);",
        'rpc X(Empty) returns (String) { option (http) = { get: "/x" }; option deprecated = true; }',
        'rpc X(Empty) returns (String) { option (note) = "}"; }',
        "/* rpc Y(Empty) returns (String);\n } */ rpc X(Empty) returns (String);",
    ],
)
def test_a_file_may_have_any_layout(line):
    assert list(read(f"service Kong {{ {line} \n}}")) == [Method("kong.x", "Empty", "String", True)]


def test_a_name_may_contain_a_comment_sign():
    text = 'service Kong { rpc X(Empty) returns (String) { option (MethodName) = "kong//x"; } }'
    assert "kong//x" in read(text)


def test_methods_with_unknown_messages_are_left_out():
    assert len(read("service Kong { rpc X(Mine) returns (String); rpc Y(Empty) returns (Yours); }")) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no service"),
        ("message Bool { bool v = 1; }", "no service"),
        ("// service Kong {}", "no service"),
        ("service Kong { rpc X(Empty) returns (String);", "no end"),
    ],
)
def test_other_text_is_refused(text, words):
    for use in (read, extend):
        with pytest.raises(InterfaceError, match=words):
            use(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("service Other { }", "no service Kong"),
        (SMALL, "none of its methods has the message Value, as kong.client.tls.disable_session_reuse needs it"),
        (STOCK_TEXT.replace("string MethodName", "string Name"), "does not declare the option MethodName"),
        (STOCK_TEXT.replace("service Kong {", "service Kong {\nrpc Vault_Get(String) returns (String);"),
         "names kong.vault.get with the messages String and String"),
        (STOCK_TEXT.replace("service Kong {", "service Kong {\nrpc Plugin_GetId(Mine) returns (String);"),
         "names kong.plugin.get_id with the messages Mine"),
        (STOCK_TEXT.replace("service Kong {", 'service Kong {\nrpc Vault_Get(String) returns (String) '
                            '{ option (MethodName) = "kong.mine"; }'),
         "has an rpc Vault_Get that is not kong.vault.get"),
    ],
)  # fmt: skip
def test_an_unknown_file_is_not_extended(text, words):
    with pytest.raises(InterfaceError, match=words):
        extend(text)


def test_an_older_kong_s_file_is_extended_only_by_our_methods():
    """It may have fewer methods than 3.9's, or other messages; its methods are called as it declares them."""
    captures = "    rpc Request_GetUriCaptures(google.protobuf.Empty) returns (UriCapturesResult);\n"
    body, older_body = "Service_Request_SetRawBody(ByteString)", "Service_Request_SetRawBody(String)"
    assert captures in STOCK_TEXT and body in STOCK_TEXT
    found = read(extend(STOCK_TEXT.replace(captures, "").replace(body, older_body)))
    assert found.missing() == ()
    assert "kong.request.get_uri_captures" not in found
    assert found.choose("kong.service.request.set_raw_body", "access").input == "String"


def test_a_method_that_is_not_named_is_unknown():
    with pytest.raises(UnknownMethod, match=r"kong\.request\.get_body"):
        STOCK.method("kong.request.get_body")
    with pytest.raises(UnknownMethod, match=r"kong\.request\.get_body"):
        STOCK.choose("kong.request.get_body", "access")
    with pytest.raises(UnknownMethod, match=r"kong\.nosuch"):
        EXTENDED.choose("kong.nosuch", "access")


@pytest.mark.parametrize(
    ("function", "phase", "name"),
    [
        ("kong.request.get_header", "access", "kong/request/get_header"),
        ("kong.request.get_header", "log", "kong.request.get_header"),
        ("kong.service.response.get_header", "log", "kong.service.response.get_header"),
        ("kong.router.get_route", "log", "kong.router.get_route"),
        ("kong.client.get_protocol", "log", "kong.client.get_protocol"),
        ("kong.log.set_serialize_value", "log", "kong.log.set_serialize_value"),
        ("kong.router.get_route", "access", "kong/router/get_route"),
        ("kong.log.set_serialize_value", "access", "kong/log/set_serialize_value"),
        ("kong.request.get_method", "access", "kong.request.get_method"),
        ("kong.request.get_body", "access", "kong.request.get_body"),
        ("kong.service.request.disable_tls", "access", "kong.service.request.disable_tls"),
        ("kong.service.request.disable_tls", "log", "kong.service.request.disable_tls"),
        ("kong.service.request.disable_tls", "preread", "kong/service/request/disable_tls"),
    ],
)
def test_the_more_exact_method_is_chosen(function, phase, name):
    """In `log` Kong is called by its own names, which were measured to work there."""
    assert EXTENDED.choose(function, phase).name == name


@pytest.mark.parametrize("phase", ["access", "log"])
def test_a_stock_kong_is_called_by_dotted_names(phase):
    assert STOCK.choose("kong.request.get_header", phase).name == "kong.request.get_header"


def test_the_messages_of_a_method_are_those_of_the_file():
    text = extend(STOCK_TEXT).replace("Service_SetTlsVerify(Bool)", "Service_SetTlsVerify(google.protobuf.ListValue)")
    found = read(text)
    assert found.choose("kong.service.set_tls_verify", "access").input == "ListValue"
    assert found.missing() == ("kong.service.set_tls_verify",)


def test_a_file_with_any_bytes_is_loaded(tmp_path):
    path = tmp_path / "pluginsocket.proto"
    path.write_bytes(b"// Zo\xeb\n" + STOCK_TEXT.encode())
    assert interface_file.load(path) == STOCK


def test_a_missing_file_is_none(tmp_path):
    assert interface_file.load(tmp_path / "pluginsocket.proto") is None


def test_a_file_of_another_kind_is_refused_with_a_message(tmp_path):
    path = tmp_path / "pluginsocket.proto"
    path.write_text("root:x:0:0")
    with pytest.raises(
        InterfaceError, match=f"^{re.escape(str(path))} is not Kong's interface file: it has no service"
    ):
        interface_file.load(path)
    with pytest.raises(InterfaceError, match=f"^{re.escape(str(tmp_path))} cannot be read"):
        interface_file.load(tmp_path)


@pytest.mark.parametrize("interface", [STOCK, EXTENDED], ids=["stock", "extended"])
def test_an_interface_survives_as_text(interface):
    assert read(as_text(interface)) == interface


def test_an_extended_text_is_recognised():
    text = as_text(STOCK)
    assert not is_extended(text)
    assert is_extended(extend(text))
    assert not is_extended(as_text(EXTENDED))


def test_copies_for_log_are_found_by_their_dotted_names():
    assert saved_for_log("kong.service.response.get_header")
    assert not saved_for_log("kong.router.get_route")
