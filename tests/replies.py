"""A response as a client receives it."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from local_servers import Headers


@dataclass
class Reply:
    status: int
    headers: Headers
    body: bytes

    @classmethod
    def read(cls, response: http.client.HTTPResponse) -> Reply:
        body = response.read()
        return cls(response.status, response.getheaders(), body)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    def json(self) -> Any:
        return json.loads(self.body)
