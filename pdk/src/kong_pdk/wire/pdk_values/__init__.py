"""The values of PDK calls on their way between an author's handler and Kong.

``conversion`` converts any Python value to one that both protocols carry, ``arguments`` prepares arguments for a
protocol, and ``results`` gives each result the same shape over both protocols. ``protobuf_*`` encode and decode the
messages of ProtoBuf:1.
"""
