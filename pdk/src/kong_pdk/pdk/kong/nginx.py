"""``kong.nginx``: the nginx under Kong."""

from __future__ import annotations

from typing import Any, Literal

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import Statistics


class Nginx(Namespace):
    """The nginx in which Kong runs.

    Only plugin servers have these functions, except ``get_subsystem`` and ``get_statistics``, which Lua has as well.
    """

    @function("kong.nginx.get_var")
    def get_var(self, name: str) -> Result[str | None]:
        """Give a variable of nginx.

        :param name: as in nginx's documentation, without ``$``: ``request_uri``.
        :return: the value; None for an empty or unknown variable.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.nginx.get_tls1_version_str")
    def get_tls1_version_str(self) -> Result[str | None]:
        """Give the version of TLS that the client speaks.

        :return: ``TLSv1.3``, for example; None without TLS.

        Phases: rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.nginx.get_ctx")
    def get_ctx(self, key: str) -> Result[Any]:
        """Give a value of ``ngx.ctx``, where Kong itself keeps its data about a request.

        :param key: the name of the value.
        :return: the value; None where it is not set.

        Phases: rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.nginx.set_ctx")
    def set_ctx(self, key: str, value: object) -> Result[None]:
        """Set a value of ``ngx.ctx``. ``kong.ctx.shared`` is the place for values of plugins.

        :param key: the name of the value; Kong's own values are not protected.
        :param value: text, number, boolean, list or dict.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.nginx.req_start_time")
    def req_start_time(self) -> Result[float]:
        """Give the time at which nginx began to process the request.

        :return: seconds since 1970, to the millisecond.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.nginx.get_subsystem")
    def get_subsystem(self) -> Result[Literal["http", "stream"]]:
        """Tell whether this is an HTTP request or a TCP connection.

        :return: ``http`` or ``stream``.

        Phases: certificate, rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.nginx.get_statistics")
    def get_statistics(self) -> Result[Statistics]:
        """Give the numbers of connections and requests of nginx.

        :return: the numbers by name.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """
