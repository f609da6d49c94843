"""Kong's access log of streams: its format ``basic``."""

from __future__ import annotations

import time
from dataclasses import dataclass

from kong_pdk.gateway.logs import Stream
from kong_pdk.gateway.stream.session import Session


@dataclass(frozen=True)
class StreamAccessLog:
    """Writes one line for each session; without a stream it writes nothing."""

    stream: Stream | None

    def write(self, session: Session) -> None:
        """Note a session that is over."""
        if self.stream is None:
            return
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(session.start_time))
        self.stream.write(
            f"{session.request.client_ip} [{stamp}] TCP {session.status:03d} {session.sent} {session.received} "
            f"{session.seconds():.3f}"
        )
