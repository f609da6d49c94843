"""The metrics do not take a port of Kong: Kong starts later and would fail."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from kong_pdk.exit_status import StartError
from kong_pdk.image import configuration
from kong_pdk.image.kong_settings import Settings, option_of
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.settings import Address


@pytest.mark.parametrize(
    ("address", "environ", "option"),
    [
        (Address("0.0.0.0", 8000), {}, "proxy_listen"),
        (Address("10.1.2.3", 8443), {}, "proxy_listen"),
        (Address("0.0.0.0", 8001), {}, "admin_listen"),
        (Address("10.1.2.3", 8001), {}, None),
        (Address("0.0.0.0", 9542), {}, None),
        (Address("127.0.0.1", 8007), {}, "status_listen"),
        (Address("127.0.0.1", 8007), {"KONG_STATUS_LISTEN": "off"}, None),
        (Address("0.0.0.0", 8000), {"KONG_PROXY_LISTEN": "0.0.0.0:80, 0.0.0.0:443 ssl"}, None),
        (Address("::", 443), {"KONG_PROXY_LISTEN": "0.0.0.0:80 reuseport, [::1]:443 http2 ssl"}, "proxy_listen"),
        (Address("127.0.0.1", 5555), {"KONG_STREAM_LISTEN": "0.0.0.0:5555"}, "stream_listen"),
        (Address("127.0.0.1", 5555), {"KONG_STREAM_LISTEN": "unix:/tmp/x.sock, ,:5555,x:y"}, None),
    ],
)
def test_a_port_of_kong_is_known(address: Address, environ: Mapping[str, str], option: str | None) -> None:
    assert option_of(address, Settings(environ)) == option


def test_a_port_of_kong_is_refused_with_its_setting(environ: Mapping[str, str], run: RunDirectory) -> None:
    taken = {**environ, "KONG_PYTHON_METRICS_LISTEN": "0.0.0.0:8000"}
    with pytest.raises(StartError) as refusal:
        configuration.read(taken, (), run)
    assert str(refusal.value) == (
        "KONG_PYTHON_METRICS_LISTEN has the port 8000, on which Kong listens (proxy_listen); choose another one"
    )
    assert refusal.value.status == 78
