"""``kong.request``: the client's request."""

from __future__ import annotations

from typing import Any, Literal

from kong_pdk.pdk.kong.namespace import Fallible, Namespace, Result, function
from kong_pdk.pdk.kong.values import Captures, Headers, Query


class Request(Namespace):
    """The client's request.

    Functions with "forwarded" in their names use the ``X-Forwarded-*`` headers of a proxy in front of Kong, if Kong
    trusts the proxy (``trusted_ips``). The other functions describe the connection to Kong itself.
    """

    @function("kong.request.get_scheme")
    def get_scheme(self) -> Result[str]:
        """Give the scheme of the request's URL.

        :return: ``http`` or ``https``, in lower case.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_host")
    def get_host(self) -> Result[str]:
        """Give the host that the client asked for.

        :return: the name from the ``Host`` header, in lower case and without a port.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_port")
    def get_port(self) -> Result[int]:
        """Give the port of Kong on which the request came in.

        :return: the port's number.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_forwarded_scheme")
    def get_forwarded_scheme(self) -> Result[str]:
        """Give the scheme that the client used, seen from outside of trusted proxies.

        :return: ``http`` or ``https``: the ``X-Forwarded-Proto`` of a trusted proxy, else as ``get_scheme``.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_forwarded_host")
    def get_forwarded_host(self) -> Result[str]:
        """Give the host that the client asked for, seen from outside of trusted proxies.

        :return: the ``X-Forwarded-Host`` of a trusted proxy, in lower case and without a port, else as ``get_host``.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_forwarded_port")
    def get_forwarded_port(self) -> Result[int]:
        """Give the port that the client connected to, seen from outside of trusted proxies.

        :return: the ``X-Forwarded-Port`` of a trusted proxy, else the port in its ``X-Forwarded-Host``, else as
            ``get_port``.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_forwarded_path")
    def get_forwarded_path(self) -> Result[str]:
        """Give the path that the client asked for, seen from outside of trusted proxies.

        :return: the ``X-Forwarded-Path`` of a trusted proxy, else the path of the request; without the query.

        Phases: rewrite, access, response.
        Interface: extended.
        """

    @function("kong.request.get_forwarded_prefix")
    def get_forwarded_prefix(self) -> Result[str | None]:
        """Give the part of the path that Kong does not send to the service.

        :return: the ``X-Forwarded-Prefix`` of a trusted proxy, else the part that a route with ``strip_path`` removes;
            None where nothing is removed.

        Phases: rewrite, access, response.
        Interface: extended.
        """

    @function("kong.request.get_http_version")
    def get_http_version(self) -> Result[float | None]:
        """Give the version of HTTP that the client speaks.

        :return: a number: 1.0, 1.1 or 2.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_method")
    def get_method(self) -> Result[str]:
        """Give the method of the request.

        :return: in upper case: ``GET``.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_path")
    def get_path(self) -> Result[str]:
        """Give the normalised path of the request.

        :return: without the query, with ``..`` and doubled slashes resolved and needless percent-encoding decoded.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_raw_path")
    def get_raw_path(self) -> Result[str]:
        """Give the path of the request as the client wrote it.

        :return: without the query, unchanged.

        Phases: rewrite, access, response.
        Interface: extended.
        """

    @function("kong.request.get_path_with_query")
    def get_path_with_query(self) -> Result[str]:
        """Give the path and the query of the request as the client wrote them.

        :return: the path, and with a query ``?`` and the query.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_raw_query")
    def get_raw_query(self) -> Result[str]:
        """Give the query of the request as the client wrote it.

        :return: the part after the ``?``; an empty text without a query.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_query_arg")
    def get_query_arg(self, name: str) -> Result[str | Literal[True] | None]:
        """Give an argument of the query.

        :param name: the argument's name, in the same case.
        :return: the first value, decoded; True for an argument without ``=``; None for a missing argument. Kong looks
            at the first 100 arguments.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_query")
    def get_query(self, max_args: int | None = None) -> Result[Query]:
        """Give all arguments of the query.

        :param max_args: how many at most, 1 to 1000; the default is 100.
        :return: names to lists of values, decoded: ``/?flag&b=1&b=2`` gives ``{"flag": [True], "b": ["1", "2"]}``.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_header")
    def get_header(self, name: str) -> Result[str | None]:
        """Give a header of the request.

        :param name: the header's name in any case; ``_`` also stands for ``-``.
        :return: the first value; None for a missing header, and over ProtoBuf:1 with the stock interface for an empty
            one. Kong looks at the first 100 headers.

        Phases: rewrite, access, response, log (http).
        Interface: stock.
        """

    @function("kong.request.get_headers")
    def get_headers(self, max_headers: int | None = None) -> Result[Headers]:
        """Give all headers of the request.

        :param max_headers: how many at most, 1 to 1000; the default is 100.
        :return: names in lower case to lists of values: ``{"x-two": ["a", "b"], "host": ["example.com"]}``.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.request.get_raw_body")
    def get_raw_body(self) -> Fallible[bytes]:
        """Give the unchanged body of the request.

        A body that is larger than nginx's buffer (``nginx_http_client_body_buffer_size``) is in a file. Over
        ProtoBuf:1 the plugin server reads the file, for which it must see Kong's file system; over MsgPack:1 such a
        body is an error.

        :return: the body; empty without one.
        :raises PDKError: the body cannot be read, in a plugin without Lua style.

        Phases: rewrite, access, response.
        Interface: stock.
        """

    @function("kong.request.get_body")
    def get_body(
        self, mimetype: str | None = None, max_args: int | None = None, max_allowed_file_size: int | None = None
    ) -> Result[Any]:
        """Parse the body of the request.

        :param mimetype: the type to parse it as, instead of the ``Content-Type`` of the request:
            ``application/x-www-form-urlencoded``, ``application/json`` or ``multipart/form-data``.
        :param max_args: how many fields of a form at most, 1 to 1000; the default is 100.
        :param max_allowed_file_size: bytes; a body that nginx has put into a file is read up to this size.
        :return: the value of the JSON, or a dict of the form's fields; None where the body is of another type, cannot
            be parsed or is too large.

        Phases: rewrite, access, response.
        Interface: extended.
        """

    @function("kong.request.get_start_time")
    def get_start_time(self) -> Result[int]:
        """Give the time at which Kong began to process the request.

        :return: milliseconds since 1970.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """

    @function("kong.request.get_uri_captures")
    def get_uri_captures(self) -> Result[Captures]:
        r"""Give the groups of the route's regular expression, with the text that each matched.

        :return: for the path ``~/users/(?<id>\d+)/(\w+)`` and the request ``/users/42/edit``:
            ``{"unnamed": {1: "42", 2: "edit"}, "named": {"id": "42"}}``.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """
