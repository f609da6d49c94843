"""A response as a client receives it."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from local_servers import Headers, WithHeaders


@dataclass
class Reply(WithHeaders):
    status: int
    headers: Headers
    body: bytes

    @classmethod
    def read(cls, response: http.client.HTTPResponse) -> Reply:
        body = response.read()
        return cls(response.status, response.getheaders(), body)

    def json(self) -> Any:
        return json.loads(self.body)
