"""What a PDK function needs in a phase, found once: may it be called, how do arguments become bytes, a reply a value.

A plugin makes the same few calls with every request, often with the same arguments. So a plan keeps the frames of calls
whose arguments are short texts, and of short answers.
"""

from __future__ import annotations

import functools
import marshal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from kong_pdk.errors import PhaseError, UnknownFunctionError
from kong_pdk.pdk.kong import absent
from kong_pdk.protocol import PHASES
from kong_pdk.server.pdk_hints import unknown_message, why_unknown
from kong_pdk.wire.msgpack_codec import encode_pdk_call
from kong_pdk.wire.pdk_functions import Method, allowed, depends_on_subsystem, phases_of
from kong_pdk.wire.pdk_values.arguments import EXITS, for_msgpack, prepare, set_body
from kong_pdk.wire.pdk_values.conversion import are_short_texts
from kong_pdk.wire.pdk_values.protobuf_arguments import LOG_LINES, encode_arguments, encode_texts
from kong_pdk.wire.pdk_values.results import from_msgpack, protobuf_decoder
from kong_pdk.wire.protobuf_codec import frame
from kong_pdk.wire.text import encode

Result: TypeAlias = tuple[Any, str | None]
Args: TypeAlias = Sequence[Any]
Special: TypeAlias = "Callable[[Any, CallPlan, Args], Result]"

REQUEST_ID = "kong_request_id"
"""Kong's variable with the id of the request."""

_MOST_FRAMES = 64
_LONGEST_FRAME = 256
_MOST_PLANS = 1024
_MARSHAL_VERSION = 2  # later ones write an object that others refer to in another way


class Coding(NamedTuple):
    """How calls of a function, and their replies, are written over a protocol."""

    encode: Callable[[Args], bytes]
    """Makes the bytes of a call of prepared arguments."""
    encode_texts: Callable[[Args], bytes | None]
    """Makes the bytes of a call of short texts, which need no preparation; None for other arguments."""
    decode: Callable[[Any], Result]
    """Gives value and error of a reply."""
    has_result: bool = True
    """Whether the reply tells something."""


class CallPlan:
    """The plan of a PDK function in a phase."""

    __slots__ = (
        "_frames", "decode", "depends_on_subsystem", "encode", "encode_texts", "function", "has_result", "is_exit",
        "is_refused", "is_urgent", "needs_care", "notice", "special", "tells_request_id",
    )  # fmt: skip

    def __init__(
        self,
        function: str,
        phase: str,
        coding: Coding,
        special: Special | None = None,
        notice: str | None = None,
    ) -> None:
        """:param special: see :attr:`special`.

        :param notice: see :attr:`notice`.
        """
        self.function = function
        self.encode, self.encode_texts, self.decode, self.has_result = coding
        self.special = special or _SPECIALS.get(function)
        """Makes the call out of several; None for all that are one call."""
        self.notice = notice
        """What to say about the function when it is called first."""
        self.depends_on_subsystem = phase == "log" and depends_on_subsystem(function)
        """Whether the phase alone does not tell if Kong allows the call."""
        self.is_refused = not self.depends_on_subsystem and allowed(function, phase) is False
        """Whether Kong refuses the call in this phase."""
        self.is_exit = function in EXITS
        """Whether Kong never answers the call: the request ends with it."""
        self.is_urgent = function in LOG_LINES
        """Whether the call is sent at once, although the handler does not wait: a line in Kong's log has a time."""
        self.tells_request_id = function == "kong.nginx.get_var"
        """Whether the reply may be the id of the request, which belongs into the log of an error."""
        self.needs_care = bool(
            self.depends_on_subsystem
            or self.is_refused
            or self.is_exit
            or self.special
            or self.notice
            or self.tells_request_id
        )
        """Whether the call is more than some bytes to send, and perhaps a reply to read."""
        self._frames: dict[Any, bytes] = {}

    def bytes_of(self, args: Args) -> bytes:
        """Give the bytes of a call. May run code of the author's objects, so the caller must hold no lock.

        :raises ArgumentError: an argument cannot be sent.
        :raises Exception: from the author's objects.
        """
        try:
            return self._frames[args]
        except (KeyError, TypeError):  # other arguments, or a list or dict among them
            pass
        key: Any = args
        made = self.encode_texts(args)
        if made is None:
            key = _key_of(args) if self.is_exit else None  # a plugin that denies requests gives most the same answer
            kept = self._frames.get(key)
            if kept is not None:
                return kept
            made = self.encode(prepare(self.function, args))
            if key is None:
                return made
        if len(made) <= _LONGEST_FRAME:
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
            self._frames[key] = made
        return made

    def check_phase(self, phase: str, subsystem: str) -> None:
        """Check that Kong allows the call.

        :param subsystem: ``http`` or ``stream``.
        :raises PhaseError: it does not.
        """
        if allowed(self.function, phase, subsystem) is False:
            phases = phases_of(self.function, subsystem)
            raise PhaseError(self.function, phase, phases, absent.REFUSED.get(self.function))


def _set_upstream(channel: Any, plan: CallPlan, args: Args) -> Result:
    """Call ``kong.service.set_upstream``: Kong returns nil and a message, of which only nil arrives."""
    value, error = channel.call(plan, plan.encode(args))
    if value is None and error is None:
        name = args[0] if args else ""
        error = f"Kong has no upstream {name!r}: the request goes where it would have gone"
    return value, error


def call_set_body(channel: Any, plan: CallPlan, args: Args) -> Result:
    """Call ``kong.service.request.set_body``, which may be several calls."""

    def call(function: str, given: Args) -> Result:
        used = plan if function == plan.function else channel.plans[function]
        result: Result = channel.call(used, used.encode(given))
        return result

    return set_body(call, args)


_SPECIALS: Mapping[str, Special] = {"kong.service.set_upstream": _set_upstream}


def _key_of(args: Args) -> bytes | None:
    """Give what tells arguments of Python's own types from all others: 1 from True, and a list from a tuple.

    :return: None where an argument is too long, or has or contains an object of another type.
    """
    if any(isinstance(value, (str, bytes)) and len(value) > _LONGEST_FRAME for value in args):
        return None
    try:
        return marshal.dumps(tuple(args), _MARSHAL_VERSION)
    except ValueError:
        return None


class Plans(dict[str, CallPlan]):
    """The plans of a phase, by function."""

    def __init__(self, make: Callable[[str], CallPlan]) -> None:
        """:param make: makes the plan of a function."""
        super().__init__()
        self._make = make

    def __missing__(self, function: str) -> CallPlan:
        plan = self._make(function)
        if len(self) < _MOST_PLANS:  # a plugin may make up names
            self[function] = plan
        return plan


class PlansByPhase:
    """The plans of all phases, over one protocol."""

    def __init__(self, make: Callable[[str, str], CallPlan]) -> None:
        """:param make: makes the plan of a phase and a function."""
        self._make = make
        self._plans: dict[str, Plans] = {}

    def of(self, phase: str) -> Plans:
        """Give the plans of a phase; those of a phase that Kong does not have are not kept."""
        plans = self._plans.get(phase)
        if plans is None:
            plans = Plans(functools.partial(self._make, phase))
            if phase in PHASES:
                self._plans[phase] = plans
        return plans


def plan_of_method(method: Method, phase: str, special: Special | None = None) -> CallPlan:
    """Make the plan of a method of ProtoBuf:1.

    :param special: makes the call, where it takes more than one.
    """
    name = frame(encode(method.name))

    def encode_call(args: Args) -> bytes:
        return name + frame(encode_arguments(method, args))

    def encode_text_call(args: Args) -> bytes | None:
        arguments = None if method.function in EXITS else encode_texts(method, args)
        return None if arguments is None else name + frame(arguments)

    coding = Coding(encode_call, encode_text_call, protobuf_decoder(method), method.output != "Empty")
    return CallPlan(method.function, phase, coding, special)


def plan_without_method(function: str, phase: str) -> CallPlan:
    """Make the plan of a function that the interface of ProtoBuf:1 does not have."""

    def refuse(_: Args) -> bytes:
        raise UnknownFunctionError(function, why_unknown(function))

    return CallPlan(function, phase, Coding(refuse, lambda _: None, lambda _: (None, None)))


def plan_over_msgpack(function: str, phase: str, special: Special | None = None) -> CallPlan:
    """Make the plan of a function over MsgPack:1.

    :param special: makes the call, where it takes more than one.
    """

    def encode_call(args: Args) -> bytes:
        return encode_pdk_call(function, for_msgpack(function, args))

    def encode_text_call(args: Args) -> bytes | None:
        return encode_pdk_call(function, args) if function not in EXITS and are_short_texts(args) else None

    def decode(data: Any) -> Result:
        return from_msgpack(function, data), None

    coding = Coding(encode_call, encode_text_call, decode)
    return CallPlan(function, phase, coding, special, unknown_message(function))
