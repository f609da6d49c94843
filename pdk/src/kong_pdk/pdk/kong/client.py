"""``kong.client``: the client's connection, and its consumer."""

from __future__ import annotations

from collections.abc import Mapping

from kong_pdk.pdk.kong import values
from kong_pdk.pdk.kong.namespace import Namespace, Part, Result, function


class ClientTls(Namespace):
    """The client's side of TLS."""

    @function("kong.client.tls.request_client_certificate")
    def request_client_certificate(self) -> Result[bool | None]:
        """Ask the client for its certificate in the handshake, which succeeds without one as well.

        :return: True; None where Kong could not ask.

        Phases: certificate.
        Interface: extended.
        """

    @function("kong.client.tls.disable_session_reuse")
    def disable_session_reuse(self) -> Result[bool | None]:
        """Make the client do a full handshake the next time, so that Kong asks for its certificate again.

        :return: True; None where it did not work.

        Phases: certificate.
        Interface: extended.
        """

    @function("kong.client.tls.get_full_client_certificate_chain")
    def get_full_client_certificate_chain(self) -> Result[str | None]:
        """Give the certificate chain of the client.

        :return: in PEM, the client's own certificate first; None without one.

        Phases: rewrite, access, response.
        Interface: extended.
        """

    @function("kong.client.tls.set_client_verify")
    def set_client_verify(self, result: str) -> Result[None]:
        """Set the result of the check of the client's certificate in the log entry.

        Kong documents it for ``rewrite`` and ``access``, but refuses it to plugin servers.

        :param result: ``SUCCESS``, ``NONE``, or ``FAILED:`` and a reason.

        Phases: none.
        Interface: extended.
        """


class Client(Namespace):
    """The client: its connection, and its authenticated consumer.

    Functions with "forwarded" in their names use the headers of a trusted proxy in front of Kong.
    """

    tls = Part(ClientTls)

    @function("kong.client.get_ip")
    def get_ip(self) -> Result[str]:
        """Give the address from which the connection to Kong was made.

        :return: an IP address; a proxy's address, where a proxy is in front of Kong.

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
        """Give the port from which the connection to Kong was made.

        :return: the port's number.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.client.get_forwarded_port")
    def get_forwarded_port(self) -> Result[int | None]:
        """Give the port from which the client connected, seen from outside of trusted proxies.

        :return: the port's number; None where a proxy does not tell it.

        Phases: rewrite, access, response, preread.
        Interface: stock.
        """

    @function("kong.client.get_credential")
    def get_credential(self) -> Result[values.Credential | None]:
        """Give the credential with which the client was authenticated.

        :return: the credential's fields; None for a client that is not authenticated.

        Phases: access, response, log.
        Interface: stock.
        """

    @function("kong.client.load_consumer")
    def load_consumer(self, consumer_id: str, search_by_username: bool | None = None) -> Result[values.Consumer | None]:
        """Find a consumer in Kong's database.

        :param consumer_id: the consumer's UUID.
        :param search_by_username: True to accept a username as well.
        :return: the consumer's fields; None where there is no such consumer.

        Phases: access, response, log.
        Interface: stock.
        """

    @function("kong.client.get_consumer")
    def get_consumer(self) -> Result[values.Consumer | None]:
        """Give the consumer that the client was authenticated as.

        :return: the consumer's fields; None for a client that is not authenticated.

        Phases: access, response, log.
        Interface: stock.
        """

    @function("kong.client.authenticate")
    def authenticate(
        self, consumer: Mapping[str, object] | None, credential: Mapping[str, object] | None
    ) -> Result[None]:
        """Set the client's consumer and credential, for the plugins that follow and for the service.

        :param consumer: its fields, from ``load_consumer`` for example; None for no consumer.
        :param credential: its fields with ``id``; None for no credential. One of the two must be given.
        :raises TypeError: a field cannot be sent. Kong's own interface file has ``id``, ``created_at``, ``username``,
            ``custom_id`` and ``tags`` of a consumer, ``id`` and ``consumer_id`` of a credential; an extended file has
            all fields if a consumer is given, and MsgPack:1 has all fields.

        Phases: access.
        Interface: stock.
        """

    @function("kong.client.get_protocol")
    def get_protocol(self, allow_terminated: bool | None = None) -> Result[str | None]:
        """Give the protocol between the client and Kong, as in ``protocols`` of routes.

        :param allow_terminated: True to accept the ``X-Forwarded-Proto`` of a trusted proxy that terminates TLS.
        :return: ``http``, ``https``, ``tcp``, ``tls``...; None where no route matched.

        Phases: access, response, log (stream).
        Interface: stock.
        """
