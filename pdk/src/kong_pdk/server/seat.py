"""What a worker inherits from its master."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from kong_pdk.server.peers import Peers


@dataclass
class Seat:
    """The place of one worker: its number, and the sockets that the master made before the fork."""

    slot: int
    line: socket.socket
    """To the master; its end is the master's end."""
    listening: list[socket.socket]
    inbox: socket.socket
    outboxes: list[socket.socket]

    def renew(self) -> None:
        """Make the sockets anew, of the class that an engine may have put in the place of Python's own."""
        self.line = _renewed(self.line)
        self.listening = [_renewed(each) for each in self.listening]
        self.inbox = _renewed(self.inbox)
        self.outboxes = [_renewed(each) for each in self.outboxes]

    def sockets(self) -> list[socket.socket]:
        """List all of them."""
        return [self.line, *self.listening, self.inbox, *self.outboxes]

    def peers(self) -> Peers | None:
        """Give the way to the other workers; None where there are none."""
        return Peers(self.slot, self.inbox, self.outboxes) if len(self.outboxes) > 1 else None


def _renewed(old: socket.socket) -> socket.socket:
    timeout = old.gettimeout()
    new = socket.socket(fileno=old.detach())
    new.settimeout(timeout)
    return new
