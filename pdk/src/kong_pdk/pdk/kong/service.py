"""``kong.service``: the service behind Kong."""

from __future__ import annotations

from kong_pdk.pdk.kong.namespace import Namespace, Part, Result, function
from kong_pdk.pdk.kong.service_request import ServiceRequest
from kong_pdk.pdk.kong.service_response import ServiceResponse


class Service(Namespace):
    """Kong's connection to the service."""

    request = Part(ServiceRequest)
    response = Part(ServiceResponse)

    @function("kong.service.set_upstream")
    def set_upstream(self, host: str) -> Result[bool | None]:
        """Send the request to an upstream of Kong, instead of the service's host.

        :param host: the upstream's name.
        :return: True; None and an error where there is no upstream of this name.

        Phases: access.
        Interface: stock.
        """

    @function("kong.service.set_target")
    def set_target(self, host: str, port: int) -> Result[None]:
        """Send the request or the connection to a host, instead of the service's.

        :param host: a host name or IP address.
        :param port: 0 to 65535.

        Phases: access, preread.
        Interface: stock.
        """

    @function("kong.service.set_retries")
    def set_retries(self, retries: int) -> Result[None]:
        """Set how often Kong tries again when the service does not answer.

        :param retries: 0 to 32767.

        Phases: access.
        Interface: extended.
        """

    @function("kong.service.set_timeouts")
    def set_timeouts(self, connect_timeout: int, write_timeout: int, read_timeout: int) -> Result[None]:
        """Set how long Kong waits for the service, for this request.

        :param connect_timeout: milliseconds until it is connected, from 1.
        :param write_timeout: milliseconds between two writes, from 1.
        :param read_timeout: milliseconds between two reads, from 1.

        Phases: access.
        Interface: extended.
        """

    @function("kong.service.set_tls_verify")
    def set_tls_verify(self, on: bool) -> Result[bool | None]:
        """Set whether Kong checks the service's certificate.

        :param on: False to accept any certificate.
        :return: True; None where it could not be set.

        Phases: rewrite, access.
        Interface: extended.
        """

    @function("kong.service.set_tls_verify_depth")
    def set_tls_verify_depth(self, depth: int) -> Result[bool | None]:
        """Set how many certificates may be between the service's certificate and a trusted one.

        :param depth: from 0.
        :return: True; None where it could not be set.

        Phases: rewrite, access.
        Interface: extended.
        """
