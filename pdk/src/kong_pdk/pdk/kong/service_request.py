"""``kong.service.request``: what the service gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import HeaderValue, QueryValue


class ServiceRequest(Namespace):
    """The request to the service, which begins as the client's."""

    @function("kong.service.request.set_scheme")
    def set_scheme(self, scheme: Literal["http", "https"]) -> Result[None]:
        """Have Kong speak to the service with TLS, or without.

        :param scheme: ``http`` or ``https``.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_path")
    def set_path(self, path: str) -> Result[None]:
        """Set the whole path: that of the service is not put in front of it.

        :param path: from ``/`` on, without a query; it goes out as it is.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_raw_query")
    def set_raw_query(self, query: str) -> Result[None]:
        """Set the query as a text.

        :param query: without ``?``, encoded as it is to go out.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_query")
    def set_query(self, args: Mapping[str, QueryValue]) -> Result[None]:
        """Set the query by its arguments, in place of all there were.

        :param args: names to values; Kong encodes them and puts the names in order.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.clear_query_arg")
    def clear_query_arg(self, name: str) -> Result[None]:
        """Take all arguments of a name from the query.

        :param name: the argument's name.

        Phases: rewrite, access.
        Interface: extended.
        """

    @function("kong.service.request.set_method")
    def set_method(self, method: str) -> Result[None]:
        """Set the method.

        :param method: one that nginx knows, in upper case: ``POST``.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_header")
    def set_header(self, header: str, value: HeaderValue) -> Result[None]:
        """Set a header, in place of any of this name. ``Host`` can be set, too.

        :param header: the header's name.
        :param value: text, number or boolean; a list for several headers of the name.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.add_header")
    def add_header(self, header: str, value: HeaderValue) -> Result[None]:
        """Add a header, beside others of this name.

        :param header: the header's name.
        :param value: text, number or boolean; a list for several headers of the name.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.clear_header")
    def clear_header(self, header: str) -> Result[None]:
        """Take all headers of a name away.

        :param header: the header's name.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_headers")
    def set_headers(self, headers: Mapping[str, HeaderValue]) -> Result[None]:
        """Set several headers, each in place of any of its name.

        :param headers: names to values; other headers of the request stay.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_raw_body")
    def set_raw_body(self, body: str | bytes) -> Result[None]:
        """Set the body as it is to go out, with its ``Content-Length``.

        :param body: text in UTF-8, or bytes; empty for none.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_body")
    def set_body(self, args: Mapping[str, Any], mimetype: str | None = None) -> Result[bool | None]:
        """Set the body by what it holds; Kong encodes it and sets ``Content-Type`` and ``Content-Length``.

        :param args: the JSON object, or the fields of the form.
        :param mimetype: ``application/x-www-form-urlencoded``, ``application/json`` or ``multipart/form-data``; the
            ``Content-Type`` of the request where it is not given.
        :return: True; None and an error where neither the argument nor the request says of what type the body is.

        Phases: rewrite, access.
        Interface: extended.
        """

    @function("kong.service.request.enable_buffering")
    def enable_buffering(self) -> Result[None]:
        """Have Kong keep back the whole response of the service, so that its body can be read in later phases.

        With a handler for ``response`` it does so by itself.

        Phases: rewrite, access.
        Interface: extended.
        """

    @function("kong.service.request.disable_tls")
    def disable_tls(self) -> Result[bool | None]:
        """Have Kong speak to the service without TLS, on a route of streams.

        :return: True; None where that cannot be had.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """
