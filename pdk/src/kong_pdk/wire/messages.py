"""The messages of ProtoBuf:1, as classes of the protobuf library.

Kong writes raw bytes, a Latin-1 header for example, into fields that its interface file declares as ``string``. Both
types are the same on the wire, so the fields are ``bytes`` here, and no client can make a message unreadable. Maps are
lists of entries for the same reason.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_PACKAGE = "kong_python.wire"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "double": _Field.TYPE_DOUBLE,
}

# The fields of each message: "name type number", with "*" behind the type of a list, and "|" before each field of the
# oneof.
_MESSAGES: dict[str, str] = {
    "Empty": "",
    "Value": "|null int32 1, |number double 2, |string bytes 3, |bool bool 4, |struct Struct 5, |list ListValue 6",
    "StructEntry": "key bytes 1, value Value 2",
    "Struct": "fields StructEntry* 1",
    "ListValue": "values Value* 1",
    "CmdGetPluginNames": "",
    "CmdGetPluginInfo": "name bytes 1",
    "CmdStartInstance": "name bytes 1, config bytes 2",
    "CmdGetInstanceStatus": "instance_id int32 1",
    "CmdCloseInstance": "instance_id int32 1",
    "CmdHandleEvent": "instance_id int32 1, event_name bytes 2",
    "RpcCall": "sequence int64 1, |cmd_get_plugin_names CmdGetPluginNames 31, "
    "|cmd_get_plugin_info CmdGetPluginInfo 32, |cmd_start_instance CmdStartInstance 33, "
    "|cmd_get_instance_status CmdGetInstanceStatus 34, |cmd_close_instance CmdCloseInstance 35, "
    "|cmd_handle_event CmdHandleEvent 36",
    "PluginNames": "names bytes* 1",
    "PluginInfo": "name bytes 1, updated_at int64 2, loaded_at int64 3, phases bytes* 4, version bytes 5, "
    "priority int32 6, schema bytes 7",
    "InstanceStatus": "name bytes 1, instance_id int32 2, config Value 3, started_at int64 4",
    "RpcReturn": "sequence int64 1, |plugin_names PluginNames 31, |plugin_info PluginInfo 32, "
    "|instance_status InstanceStatus 33",
    "KV": "k bytes 1, v Value 2",
    "Bool": "v bool 1",
    "Int": "v int32 1",
    "Number": "v double 1",
    "String": "v bytes 1",
    "ByteString": "v bytes 1",
    "ExitArgs": "status int32 1, body bytes 2, headers Struct 3",
    "ServiceKey": "id bytes 1",
    "CertificateKey": "id bytes 1",
    "RawBodyResult": "|content bytes 1, |body_filepath bytes 2, |error bytes 3",
    "NamedCapture": "key bytes 1, value bytes 2",
    "UriCapturesResult": "unnamed bytes* 1, named NamedCapture* 2",
    "Route": "id bytes 1, created_at int64 2, updated_at int64 3, name bytes 4, protocols bytes* 5, methods bytes* 6, "
    "hosts bytes* 7, paths bytes* 8, headers bytes* 9, https_redirect_status_code int32 10, regex_priority int32 11, "
    "strip_path bool 12, preserve_host bool 13, snis bytes* 14, sources bytes* 15, destinations bytes* 16, "
    "tags bytes* 17, service ServiceKey 18",
    "Service": "id bytes 1, created_at int64 2, updated_at int64 3, name bytes 4, retries int32 5, protocol bytes 6, "
    "host bytes 7, port int32 8, path bytes 9, connect_timeout int32 10, write_timeout int32 11, "
    "read_timeout int32 12, tags bytes* 13, client_certificate CertificateKey 14",
    "Target": "host bytes 1, port int32 2",
    "ConsumerSpec": "id bytes 1, by_username bool 2",
    "Consumer": "id bytes 1, created_at int64 2, username bytes 3, custom_id bytes 4, tags bytes* 5",
    "AuthenticatedCredential": "id bytes 1, consumer_id bytes 2",
    "AuthenticateArgs": "consumer Consumer 1, credential AuthenticatedCredential 2",
    "DictStats": "allocated_slabs int64 1, capacity int64 2",
    "LuaSharedDicts": "kong DictStats 1, kong_db_cache DictStats 2",
    "WorkerLuaVm": "http_allocated_gc int64 1, pid int64 2",
    "MemoryStats": "lua_shared_dicts LuaSharedDicts 1, workers_lua_vms WorkerLuaVm* 2",
}


def _add_field(message: descriptor_pb2.DescriptorProto, line: str) -> None:
    name, kind, number = line.strip().split()
    field = message.field.add(name=name.lstrip("|"), number=int(number))
    field.label = _Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL
    scalar = _SCALARS.get(kind.rstrip("*"))
    if scalar is None:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind.rstrip('*')}"
    else:
        field.type = scalar
    if name.startswith("|"):
        field.oneof_index = 0


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="kong_python_wire.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if "|" in fields:
            message.oneof_decl.add(name="kind")
        for line in filter(None, fields.split(",")):
            _add_field(message, line)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


@cache
def message_class(name: str) -> type[Any]:
    """Give the class of a message.

    :param name: the short name, ``RpcCall`` for example.
    """
    descriptor = _pool().FindMessageTypeByName(f"{_PACKAGE}.{name}")
    cls: type[Message] = message_factory.GetMessageClass(descriptor)
    return cls
