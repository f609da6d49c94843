"""``kong.service.response``: what the service answered."""

from __future__ import annotations

from typing import Any

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import Headers


class ServiceResponse(Namespace):
    """The service's response, without what plugins changed."""

    @function("kong.service.response.get_status")
    def get_status(self) -> Result[int | None]:
        """Give the status that the service sent.

        :return: the number; None where the service was not asked.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.service.response.get_header")
    def get_header(self, name: str) -> Result[str | None]:
        """Give a header that the service sent.

        :param name: the header's name in any case; ``_`` stands for ``-``, too.
        :return: its first value; None where there is none. Over ProtoBuf:1 with the stock interface an empty one is
            None, too.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.service.response.get_headers")
    def get_headers(self, max_headers: int | None = None) -> Result[Headers]:
        """Give all headers that the service sent.

        :param max_headers: how many at most, 1 to 1000; 100 where it is not given.
        :return: names in lower case to lists of values.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.service.response.get_raw_body")
    def get_raw_body(self) -> Result[bytes]:
        """Give the body that the service sent, as it came.

        Kong must have kept it back: for a handler of ``response``, or by ``kong.service.request.enable_buffering``.

        :return: empty where there is none.

        Phases: response, log.
        Interface: stock.
        """

    @function("kong.service.response.get_body")
    def get_body(self, mimetype: str | None = None, max_args: int | None = None) -> Result[Any]:
        """Give what the body holds that the service sent.

        :param mimetype: the kind to read it as, where its ``Content-Type`` is not to count:
            ``application/x-www-form-urlencoded``, ``application/json`` or ``multipart/form-data``.
        :param max_args: how many fields of a form at most, 1 to 1000; 100 where it is not given.
        :return: the value of the JSON, or a dict of the form's fields; None where the body is of another kind or
            cannot be parsed.

        Phases: response, log.
        Interface: extended.
        """
