"""The values of PDK calls on their way between an author's handler and Kong.

``conversion`` converts any Python value to one that both protocols carry, ``arguments`` prepares arguments for a
protocol, and ``results`` gives each result the same shape over both protocols. ``protobuf_*`` encode and decode the
messages of ProtoBuf:1.
"""

from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments, encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import RawBody, decode_result, encode_result

__all__ = [
    "METHODS",
    "Method",
    "RawBody",
    "decode_arguments",
    "decode_result",
    "encode_arguments",
    "encode_result",
]
