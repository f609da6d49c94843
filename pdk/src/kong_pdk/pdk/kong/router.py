"""``kong.router``: the route and the service of the request."""

from __future__ import annotations

from kong_pdk.pdk.kong import values
from kong_pdk.pdk.kong.namespace import Namespace, Result, function


class Router(Namespace):
    """The route and the service that Kong chose for the request or the connection."""

    @function("kong.router.get_route")
    def get_route(self) -> Result[values.Route | None]:
        """Give the route that matched.

        :return: the fields that are set; None where no route matched.

        Phases: access, response, log.
        Interface: stock.
        """

    @function("kong.router.get_service")
    def get_service(self) -> Result[values.Service | None]:
        """Give the service of the route that matched.

        :return: the fields that are set; None without a service.

        Phases: access, response, log.
        Interface: stock.
        """
