"""``kong.service.response``: the response of the service."""

from __future__ import annotations

from typing import Any

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import Headers


class ServiceResponse(Namespace):
    """The response of the service, without the changes of plugins."""

    @function("kong.service.response.get_status")
    def get_status(self) -> Result[int | None]:
        """Give the status of the service's response.

        :return: the number; None where the request did not reach the service.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.service.response.get_header")
    def get_header(self, name: str) -> Result[str | None]:
        """Give a header of the service's response.

        :param name: the header's name in any case; ``_`` also stands for ``-``.
        :return: the first value; None for a missing header, and over ProtoBuf:1 with the stock interface for an empty
            one.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.service.response.get_headers")
    def get_headers(self, max_headers: int | None = None) -> Result[Headers]:
        """Give all headers of the service's response.

        :param max_headers: how many at most, 1 to 1000; the default is 100.
        :return: names in lower case to lists of values.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.service.response.get_raw_body")
    def get_raw_body(self) -> Result[bytes]:
        """Give the unchanged body of the service's response.

        Kong must have buffered it: for a handler of ``response``, or by ``kong.service.request.enable_buffering``.

        :return: the body; empty without one.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.service.response.get_body")
    def get_body(self, mimetype: str | None = None, max_args: int | None = None) -> Result[Any]:
        """Parse the body of the service's response.

        :param mimetype: the type to parse it as, instead of its ``Content-Type``:
            ``application/x-www-form-urlencoded``, ``application/json`` or ``multipart/form-data``.
        :param max_args: how many fields of a form at most, 1 to 1000; the default is 100.
        :return: the value of the JSON, or a dict of the form's fields; None where the body is of another type or
            cannot be parsed.

        Phases: response, log.
        Interface: extended.
        """
