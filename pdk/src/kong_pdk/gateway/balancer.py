"""Chooses the address for a request: the service's own, or the next target of an upstream."""

from __future__ import annotations

import time
from dataclasses import dataclass

from kong_pdk.gateway.entities import Config, Target, Upstream
from kong_pdk.gateway.exchange import Exchange


class NoPeer(Exception):
    """An upstream has no target with a weight above 0."""


@dataclass(frozen=True)
class Address:
    """Where to connect, and the name for the Host header."""

    host: str
    port: int
    name: str


class _Ring:
    """Smooth weighted round robin, like nginx: the turns of a heavy target are spread between those of the others."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self._targets = [target for target in targets if target.weight > 0]
        self._turns = [0] * len(self._targets)
        self._total = sum(target.weight for target in self._targets)

    def next(self) -> Target:
        if not self._targets:
            raise NoPeer
        for index, target in enumerate(self._targets):
            self._turns[index] += target.weight
        chosen = max(range(len(self._turns)), key=self._turns.__getitem__)
        self._turns[chosen] -= self._total
        return self._targets[chosen]


class Balancer:
    """The rings of all upstreams of a configuration."""

    def __init__(self, config: Config) -> None:
        self._upstreams: dict[str, tuple[Upstream, _Ring]] = {
            name.lower(): (upstream, _Ring(upstream.targets)) for name, upstream in config.upstreams_by_name.items()
        }

    def next(self, host: str, port: int) -> Address:
        """The address for one try.

        :param host: the name of an upstream, a host name or an IP address.
        :raises NoPeer: the upstream has no target to use.
        """
        entry = self._upstreams.get(host.lower())
        if entry is None:
            return Address(host, port, host)
        upstream, ring = entry
        target = ring.next()
        return Address(target.host, target.port, upstream.host_header or target.host)

    def next_try(self, exchange: Exchange) -> Address:
        """The address for the next try of a request or a TCP session, which is added to its ``tries``.

        :raises NoPeer: the upstream has no target to use.
        """
        upstream = exchange.upstream
        start = time.time_ns()
        address = self.next(upstream.upstream_name or upstream.host, upstream.port)
        duration = time.time_ns() - start
        exchange.tries.append(
            {
                "ip": address.host,
                "port": address.port,
                "balancer_start": start // 1_000_000,
                "balancer_start_ns": start,
                "balancer_latency": duration // 1_000_000,
                "balancer_latency_ns": duration,
            }
        )
        return address
