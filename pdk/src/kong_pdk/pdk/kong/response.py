"""``kong.response``: the response to the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NoReturn

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import Body, Headers, HeaderValue


class Response(Namespace):
    """The response to the client, from the service, a plugin or Kong.

    Values that are set in phases before ``response`` are added to the response when Kong sends it.
    """

    @function("kong.response.get_status")
    def get_status(self) -> Result[int]:
        """Give the status of the response.

        :return: the status of the service, or the status that replaces it.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.response.get_header")
    def get_header(self, name: str) -> Result[str | None]:
        """Give a header of the response, of the service or a plugin.

        :param name: the header's name in any case; ``_`` also stands for ``-``.
        :return: the first value; None for a missing header, and over ProtoBuf:1 with the stock interface for an empty
            one.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.response.get_headers")
    def get_headers(self, max_headers: int | None = None) -> Result[Headers]:
        """Give all headers of the response, of the service and of plugins.

        :param max_headers: how many at most, 1 to 1000; the default is 100.
        :return: names in lower case to lists of values.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.response.get_source")
    def get_source(self) -> Result[Literal["exit", "error", "service"]]:
        """Tell who made the response.

        :return: ``exit`` for a plugin (``kong.response.exit``), ``service`` for the service, ``error`` for Kong, where
            the service does not answer for example.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.response.set_status")
    def set_status(self, status: int) -> Result[None]:
        """Set the status of the response.

        :param status: 100 to 599.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.set_header")
    def set_header(self, name: str, value: HeaderValue) -> Result[None]:
        """Set a header of the response, and replace headers of the same name.

        :param name: the header's name.
        :param value: text, number or boolean; a list for several headers of the name.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.add_header")
    def add_header(self, name: str, value: HeaderValue) -> Result[None]:
        """Add a header to the response, and keep headers of the same name.

        :param name: the header's name.
        :param value: text, number or boolean; a list for several headers of the name.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.clear_header")
    def clear_header(self, name: str) -> Result[None]:
        """Remove all headers of a name from the response.

        :param name: the header's name.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.set_headers")
    def set_headers(self, headers: Mapping[str, HeaderValue]) -> Result[None]:
        """Set several headers of the response, and replace headers of the same names.

        :param headers: names to values; other headers stay.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.response.exit")
    def exit(self, status: int, body: Body | None = None, headers: Mapping[str, HeaderValue] | None = None) -> NoReturn:
        """Answer the client. After this call only the ``finally`` blocks of the handler run.

        Plugins of lower priority do not run, and the request does not reach the service. In ``response`` the body is
        replaced, and the service's headers stay. In ``preread`` the connection is closed.

        :param status: 100 to 599.
        :param body: text or bytes are sent as they are; a dict or a list as JSON, with its ``Content-Type``. Without a
            body the response is empty over ProtoBuf:1, and nginx's page for the status over MsgPack:1.
        :param headers: names to values, in addition to headers that were set before.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.response.error")
    def error(
        self, status: int, message: str | None = None, headers: Mapping[str, HeaderValue] | None = None
    ) -> NoReturn:
        """Answer the client by an error. After this call only the ``finally`` blocks of the handler run.

        Kong makes the body, in the format of the request's ``Accept`` header: JSON, HTML, XML or text.

        :param status: 400 to 599.
        :param message: the message in the body; the default is Kong's message for the status.
        :param headers: names to values.

        Phases: rewrite, access, response.
        Interface: extended.
        """
