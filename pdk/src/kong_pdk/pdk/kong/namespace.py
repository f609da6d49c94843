"""The base class of the parts of the PDK, and the decorator that makes a documented method call Kong."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from kong_pdk.errors import AbsentError
from kong_pdk.pdk.kong import absent
from kong_pdk.pdk.kong.unconnected import do_nothing, unconnected, warn

Call = Callable[[str, Sequence[object]], Any]
"""Calls the PDK function of a dotted name with the arguments."""

T = TypeVar("T")
Whole = TypeVar("Whole", bound="Namespace")
Method = TypeVar("Method", bound=Callable[..., Any])

Result = tuple[T, str | None]
"""A value, and Kong's error, which is None."""

Fallible = tuple[T | None, str | None]
"""A value and None; or None and the error."""


class Namespace:
    """A part of the PDK: ``kong.request``, for example.

    Functions that only a newer Kong has can be called as well; type checkers do not know them. So the plugin server or
    Kong, and not Python, reports a wrong name.
    """

    def __init__(self, call: Call = do_nothing, path: str = "kong") -> None:
        """:param call: makes the calls; without it they return None, for a unit test that makes its own ``kong()``.

        :param path: the dotted name of this part.
        """
        self._call = call
        self._path = path

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Namespace:
            if name.startswith("_"):
                raise AttributeError(name)
            path = f"{self._path}.{name}"
            if (hint := absent.hint(path)) is not None:
                raise AbsentError(path, hint)
            return Unknown(self._call, path)

        def __call__(self, *args: object) -> Any:
            return self._call(self._path, args)

    def __repr__(self) -> str:
        return f"<{self._path}>"


class Unknown(Namespace):
    """A name that only a newer Kong may have: a function, or a part of the PDK, but not a value."""

    if not TYPE_CHECKING:

        def _refuse(self, *_: object) -> Any:
            raise TypeError(f"{self._path} is not known here and has no value; where Kong has such a function, call it")

        __str__ = __format__ = __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
        __int__ = __float__ = __len__ = __iter__ = __contains__ = __getitem__ = __add__ = __radd__ = _refuse
        __hash__ = object.__hash__


class Part(Generic[Whole]):
    """A descriptor for a part of a namespace, which is made at its first use: an event seldom uses more than two."""

    def __init__(self, kind: type[Whole]) -> None:
        self.kind = kind
        self.__doc__ = kind.__doc__
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, whole: None, owner: type) -> Part[Whole]: ...

    @overload
    def __get__(self, whole: Namespace, owner: type) -> Whole: ...

    def __get__(self, whole: Namespace | None, owner: type) -> Part[Whole] | Whole:
        if whole is None:
            return self
        made = self.kind(whole._call, f"{whole._path}.{self._name}")
        whole.__dict__[self._name] = made  # further accesses do not reach this descriptor
        return made

    if not TYPE_CHECKING:  # type checkers must not allow calls on the class, without the handler's kong

        def __getattr__(self, name: str) -> Any:
            """Give a part, or a function that does nothing, for ``kong.log.warn("...")`` on the class, at import."""
            member = vars(self.kind).get(name)
            if name.startswith("__") or not (isinstance(member, Part) or hasattr(member, "pdk_function")):
                raise AttributeError(f"{self.kind.__name__} of the PDK has no function {name}")
            part = member if isinstance(member, Part) else unconnected(member, member.pdk_function)
            self.__dict__[name] = part
            return part

        def __dir__(self) -> list[str]:
            members = vars(self.kind).items()
            return [name for name, member in members if isinstance(member, Part) or hasattr(member, "pdk_function")]

        def __call__(self, *args: object, **named: object) -> None:
            """Do nothing, for ``kong.log("...")`` on the class."""
            function = vars(self.kind).get("__call__")
            if function is None:
                raise TypeError(f"{self.kind.__name__} of the PDK is not a function")
            warn(function.pdk_function)


def function(name: str) -> Callable[[Method], Method]:
    """Decorate a method that has only a signature and a docstring, so that it calls Kong.

    Positional arguments go to Kong as they are, even too few or too many: Kong checks them.

    :param name: the dotted name of the function.
    """

    def replace(documented: Method) -> Method:
        @functools.wraps(documented)
        def method(self: Namespace, *args: object, **named: object) -> Any:
            return self._call(name, _by_position(name, documented, args, named) if named else args)

        setattr(method, "pdk_function", name)  # noqa: B010  # functions have no such attribute for mypy
        return cast(Method, method)

    return replace


_signature = functools.cache(inspect.signature)


def _by_position(
    name: str, documented: Callable[..., Any], args: Sequence[object], named: Mapping[str, object]
) -> list[object]:
    """Put arguments by name into the positions that Lua expects, with None for missing arguments before them.

    :raises TypeError: there is no parameter of a name, or a required argument is missing.
    """
    signature = _signature(documented)
    try:
        bound = signature.bind(None, *args, **named)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    given: list[object] = []
    for parameter in list(signature.parameters.values())[1:]:
        if parameter.kind is parameter.VAR_POSITIONAL:
            given.extend(bound.arguments.get(parameter.name, ()))
        else:
            given.append(bound.arguments.get(parameter.name))
    while given and given[-1] is None:
        given.pop()
    return given
