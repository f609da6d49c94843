"""``kong.service.request``: the request to the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import HeaderValue, QueryValue


class ServiceRequest(Namespace):
    """The request to the service, which starts as a copy of the client's request."""

    @function("kong.service.request.set_scheme")
    def set_scheme(self, scheme: Literal["http", "https"]) -> Result[None]:
        """Set whether Kong connects to the service with TLS.

        :param scheme: ``http`` or ``https``.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_path")
    def set_path(self, path: str) -> Result[None]:
        """Set the whole path, without the path of the service before it.

        :param path: from ``/`` on, without a query; it is sent unchanged.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_raw_query")
    def set_raw_query(self, query: str) -> Result[None]:
        """Set the query as a text.

        :param query: without ``?``, and encoded.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_query")
    def set_query(self, args: Mapping[str, QueryValue]) -> Result[None]:
        """Replace the query by arguments.

        :param args: names to values; Kong encodes them, and sorts them by name.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.clear_query_arg")
    def clear_query_arg(self, name: str) -> Result[None]:
        """Remove all arguments of a name from the query.

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
        """Set a header, and replace headers of the same name. ``Host`` can be set as well.

        :param header: the header's name.
        :param value: text, number or boolean; a list for several headers of the name.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.add_header")
    def add_header(self, header: str, value: HeaderValue) -> Result[None]:
        """Add a header, and keep headers of the same name.

        :param header: the header's name.
        :param value: text, number or boolean; a list for several headers of the name.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.clear_header")
    def clear_header(self, header: str) -> Result[None]:
        """Remove all headers of a name.

        :param header: the header's name.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_headers")
    def set_headers(self, headers: Mapping[str, HeaderValue]) -> Result[None]:
        """Set several headers, and replace headers of the same names.

        :param headers: names to values; other headers stay.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_raw_body")
    def set_raw_body(self, body: str | bytes) -> Result[None]:
        """Set the body, which is sent unchanged, and its ``Content-Length``.

        :param body: text, which is sent as UTF-8, or bytes; empty for no body.

        Phases: rewrite, access.
        Interface: stock.
        """

    @function("kong.service.request.set_body")
    def set_body(self, args: Mapping[str, Any], mimetype: str | None = None) -> Result[bool | None]:
        """Encode a body and set it, with ``Content-Type`` and ``Content-Length``.

        :param args: the JSON object, or the fields of the form.
        :param mimetype: ``application/x-www-form-urlencoded``, ``application/json`` or ``multipart/form-data``; the
            default is the ``Content-Type`` of the request.
        :return: True; None and an error where neither the argument nor the request has the type of the body.

        Phases: rewrite, access.
        Interface: extended.
        """

    @function("kong.service.request.enable_buffering")
    def enable_buffering(self) -> Result[None]:
        """Make Kong buffer the whole response of the service, so that later phases can read its body.

        With a handler for ``response`` Kong does so by itself.

        Phases: rewrite, access.
        Interface: extended.
        """

    @function("kong.service.request.disable_tls")
    def disable_tls(self) -> Result[bool | None]:
        """Make Kong connect to the service without TLS, on a stream route.

        :return: True; None where it does not work.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """
