"""``kong.nginx``: the nginx under Kong."""

from __future__ import annotations

from typing import Any, Literal

from kong_pdk.pdk.kong.namespace import Namespace, Result, function
from kong_pdk.pdk.kong.values import Statistics


class Nginx(Namespace):
    """The nginx in which Kong runs. All but ``get_subsystem`` and ``get_statistics`` are for plugin servers alone."""

    @function("kong.nginx.get_var")
    def get_var(self, name: str) -> Result[str | None]:
        """Give a variable of nginx.

        :param name: as in nginx's documentation, without ``$``: ``request_uri``.
        :return: its value; None where it is empty or there is none.

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
        """Give a value of ``ngx.ctx``, where Kong itself keeps what it knows of a request.

        :param key: its name.
        :return: the value; None where there is none.

        Phases: rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.nginx.set_ctx")
    def set_ctx(self, key: str, value: object) -> Result[None]:
        """Set a value of ``ngx.ctx``. ``kong.ctx.shared`` is the place for values of plugins.

        :param key: its name; Kong's own are not protected.
        :param value: text, number, boolean, list or dict.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.nginx.req_start_time")
    def req_start_time(self) -> Result[float]:
        """Give the moment at which nginx began with the request.

        :return: seconds since 1970, to the millisecond.

        Phases: rewrite, access, response, log.
        Interface: stock.
        """

    @function("kong.nginx.get_subsystem")
    def get_subsystem(self) -> Result[Literal["http", "stream"]]:
        """Say whether this is a request, or a TCP connection.

        :return: ``http`` or ``stream``.

        Phases: certificate, rewrite, access, response, preread, log.
        Interface: stock.
        """

    @function("kong.nginx.get_statistics")
    def get_statistics(self) -> Result[Statistics]:
        """Give the connections and requests that nginx has counted.

        :return: numbers by name.

        Phases: rewrite, access, response, log.
        Interface: extended.
        """
