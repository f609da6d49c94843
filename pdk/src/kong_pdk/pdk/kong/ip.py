"""``kong.ip``: the IP addresses that Kong trusts."""

from __future__ import annotations

from kong_pdk.pdk.kong.namespace import Namespace, Result, function


class Ip(Namespace):
    """IP addresses."""

    @function("kong.ip.is_trusted")
    def is_trusted(self, address: str) -> Result[bool]:
        """Whether Kong trusts the ``X-Forwarded-*`` headers of an address.

        :param address: an IP address.
        :return: whether it is in Kong's ``trusted_ips``.

        Phases: certificate, rewrite, access, response, preread, log.
        Interface: stock.
        """
