"""``kong.client``: who connected, and who that is."""

from __future__ import annotations

from collections.abc import Mapping

from kong_pdk.pdk.kong import values
from kong_pdk.pdk.kong.namespace import Namespace, Part, Result, function


class ClientTls(Namespace):
    """The client's side of TLS."""

    @function("kong.client.tls.request_client_certificate")
    def request_client_certificate(self) -> Result[bool | None]:
        """Ask the client for its certificate in the handshake. The handshake goes on without one, too.

        :return: True; None where it could not be asked for.

        Phases: certificate.
        Interface: extended.
        """

    @function("kong.client.tls.disable_session_reuse")
    def disable_session_reuse(self) -> Result[bool | None]:
        """Have the client make a whole handshake the next time, so that its certificate is asked for again.

        :return: True; None where that could not be had.

        Phases: certificate.
        Interface: extended.
        """

    @function("kong.client.tls.get_full_client_certificate_chain")
    def get_full_client_certificate_chain(self) -> Result[str | None]:
        """Give the certificate that the client showed, and those behind it.

        :return: in PEM, the client's own first; None where it showed none.

        Phases: rewrite, access, response.
        Interface: extended.
        """

    @function("kong.client.tls.set_client_verify")
    def set_client_verify(self, result: str) -> Result[None]:
        """Set what the log entry says about the check of the client's certificate.

        Kong documents it for ``rewrite`` and ``access``; a plugin server was seen to be refused there.

        :param result: ``SUCCESS``, ``NONE``, or ``FAILED:`` and a reason.

        Phases: none.
        Interface: extended.
        """


class Client(Namespace):
    """The client: its connection, and the consumer as whom it was authenticated.

    Functions with "forwarded" in their names take what a trusted proxy in front of Kong says.
    """

    tls = Part(ClientTls)

    @function("kong.client.get_ip")
    def get_ip(self) -> Result[str]:
        """Give the address of whoever connected to Kong.

        :return: an IP address; a proxy's, where there is one in front.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.client.get_forwarded_ip")
    def get_forwarded_ip(self) -> Result[str]:
        """Give the client's address, seen from outside of trusted proxies.

        :return: an IP address, from the header that ``real_ip_header`` names where a trusted proxy sent it.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.client.get_port")
    def get_port(self) -> Result[int]:
        """Give the port from which somebody connected to Kong.

        :return: the port's number.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.client.get_forwarded_port")
    def get_forwarded_port(self) -> Result[int | None]:
        """Give the port from which the client connected, seen from outside of trusted proxies.

        :return: the port's number; None where a proxy did not say it.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.client.get_credential")
    def get_credential(self) -> Result[values.Credential | None]:
        """Give what the client was authenticated with.

        :return: the credential's fields; None where nobody is authenticated.

        Phases: access, response, log.
        Interface: stock.
        """

    @function("kong.client.load_consumer")
    def load_consumer(self, consumer_id: str, search_by_username: bool | None = None) -> Result[values.Consumer | None]:
        """Look a consumer up in Kong's database.

        :param consumer_id: the consumer's UUID.
        :param search_by_username: True to take a username in place of the UUID as well.
        :return: the consumer's fields; None where there is none.

        Phases: access, response, log.
        Interface: stock.
        """

    @function("kong.client.get_consumer")
    def get_consumer(self) -> Result[values.Consumer | None]:
        """Give the consumer as whom the client was authenticated.

        :return: the consumer's fields; None where nobody is authenticated.

        Phases: access, response, log.
        Interface: stock.
        """

    @function("kong.client.authenticate")
    def authenticate(
        self, consumer: Mapping[str, object] | None, credential: Mapping[str, object] | None
    ) -> Result[None]:
        """Say who the client is, for the plugins that follow and for the service.

        :param consumer: its fields, from ``load_consumer`` for example; None for nobody.
        :param credential: its fields, ``id`` among them; None for none. One of the two must be given.
        :raises TypeError: a field that does not reach Kong. Kong's own interface file has ``id``, ``created_at``,
            ``username``, ``custom_id`` and ``tags`` of a consumer, ``id`` and ``consumer_id`` of a credential; an
            extended file has all of them where a consumer is given, MsgPack:1 has all of them.

        Phases: access.
        Interface: stock.
        """

    @function("kong.client.get_protocol")
    def get_protocol(self, allow_terminated: bool | None = None) -> Result[str | None]:
        """Give the protocol in which the client speaks to Kong, as routes name it.

        :param allow_terminated: True to believe the ``X-Forwarded-Proto`` of a trusted proxy that ended TLS.
        :return: ``http``, ``https``, ``tcp``, ``tls``...; None where no route matched.

        Phases: access, response, log (stream).
        Interface: stock.
        """
