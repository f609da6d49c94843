"""The values of PDK calls on their way between an author's handler and Kong.

``conversion`` makes any argument one that both protocols carry, ``arguments`` makes it ready for either protocol,
``results`` gives authors one shape for each result. ``protobuf_*`` are the messages of ProtoBuf:1.
"""
