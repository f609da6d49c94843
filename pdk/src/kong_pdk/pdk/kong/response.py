"""``kong.response``: what the client gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NoReturn

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import Body, Headers, HeaderValue


class Response(Namespace):
    """The response to the client, whether the service made it, a plugin or Kong.

    What is set in phases before ``response`` is added to the response when it goes out.
    """

    @function("kong.response.get_status")
    def get_status(self) -> Result[int]:
        """Give the status of the response.

        :return: the service's status, or what was set in its place.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.response.get_header")
    def get_header(self, name: str) -> Result[str | None]:
        """Give a header of the response, those that plugins added included.

        :param name: the header's name in any case; ``_`` stands for ``-``, too.
        :return: its first value; None where there is none. Over ProtoBuf:1 with the stock interface an empty one is
            None, too.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.response.get_headers")
    def get_headers(self, max_headers: int | None = None) -> Result[Headers]:
        """Give all headers of the response, those that plugins added included.

        :param max_headers: how many at most, 1 to 1000; 100 where it is not given.
        :return: names in lower case to lists of values.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.response.get_source")
    def get_source(self) -> Result[Literal["exit", "error", "service"]]:
        """Say who made the response.

        :return: ``exit`` for a plugin (``kong.response.exit``), ``error`` for Kong, as when the service does not
            answer, ``service`` for the service.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.response.set_status")
    def set_status(self, status: int) -> Result[None]:
        """Give the response another status.

        :param status: 100 to 599.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.set_header")
    def set_header(self, name: str, value: HeaderValue) -> Result[None]:
        """Set a header of the response, in place of any of this name.

        :param name: the header's name.
        :param value: text, number or boolean; a list for several headers of the name.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.add_header")
    def add_header(self, name: str, value: HeaderValue) -> Result[None]:
        """Add a header to the response, beside others of this name.

        :param name: the header's name.
        :param value: text, number or boolean; a list for several headers of the name.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.clear_header")
    def clear_header(self, name: str) -> Result[None]:
        """Take all headers of a name from the response.

        :param name: the header's name.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.set_headers")
    def set_headers(self, headers: Mapping[str, HeaderValue]) -> Result[None]:
        """Set several headers of the response, each in place of any of its name.

        :param headers: names to values; other headers of the response stay.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.exit")
    def exit(self, status: int, body: Body | None = None, headers: Mapping[str, HeaderValue] | None = None) -> NoReturn:
        """Answer the client. Nothing of the handler runs after this but its ``finally`` blocks.

        No plugin with a lower priority runs, and the service is not asked. In ``response`` the body is replaced and
        the service's headers stay. In ``preread`` the connection is closed.

        :param status: 100 to 599.
        :param body: text or bytes go out as they are; a dict or a list as JSON, with its ``Content-Type``. Without a
            body the response is empty over ProtoBuf:1 and nginx's page for the status over MsgPack:1.
        :param headers: names to values, beside those that were set before.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.response.error")
    def error(
        self, status: int, message: str | None = None, headers: Mapping[str, HeaderValue] | None = None
    ) -> NoReturn:
        """Answer the client by an error. Nothing of the handler runs after this but its ``finally`` blocks.

        The body is made by Kong, in the form that the ``Accept`` of the request asks for: JSON, HTML, XML or text.

        :param status: 400 to 599.
        :param message: what the body says; where it is not given, Kong's words for the status.
        :param headers: names to values.

        Phases: rewrite, access, response.
        Interface: extended.
        """
