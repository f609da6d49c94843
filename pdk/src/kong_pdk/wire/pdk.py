"""The PDK's calls over ProtoBuf:1: the methods there are, their arguments and their results."""

from kong_pdk.wire.arguments import decode_arguments, encode_arguments
from kong_pdk.wire.methods import METHODS, Method
from kong_pdk.wire.results import RawBody, decode_result, encode_result

__all__ = [
    "METHODS",
    "Method",
    "RawBody",
    "decode_arguments",
    "decode_result",
    "encode_arguments",
    "encode_result",
]
