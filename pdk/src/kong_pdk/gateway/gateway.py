"""The embedded gateway: starts, reloads and stops the proxy of one declarative configuration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kong_pdk.gateway.access_log import AccessLog, StreamAccessLog
from kong_pdk.gateway.app import Application, Generation, StreamSubsystem
from kong_pdk.gateway.balancer import Balancer
from kong_pdk.gateway.declarative import DeclarativeError, load_settings, skipped_plugins
from kong_pdk.gateway.declarative.core_schema import Field
from kong_pdk.gateway.entities import Config
from kong_pdk.gateway.exchange import Node, Statistics
from kong_pdk.gateway.gateway_settings import BUNDLED, Settings, SettingsError
from kong_pdk.gateway.handshake import CertificatePhase
from kong_pdk.gateway.key_auth import KEY_AUTH
from kong_pdk.gateway.listeners import Address, Listeners, StreamListeners
from kong_pdk.gateway.nginx_logs import ErrorLog, Stream, open_stream
from kong_pdk.gateway.phases import Handler, Registry
from kong_pdk.gateway.routing import Router
from kong_pdk.gateway.servers import PluginServerError, PluginServers
from kong_pdk.gateway.status import Status
from kong_pdk.gateway.stream.proxy import StreamProxy
from kong_pdk.gateway.stream.routes import STREAM_PROTOCOLS, StreamRouter
from kong_pdk.gateway.tls import load_certificates, server_context
from kong_pdk.gateway.upstream import Connections
from kong_pdk.gateway.vaults import Resolver, Vaults
from kong_pdk.wire.wire_errors import InterfaceError

# Settings that a reload does not change.
_FIXED_SETTINGS = (
    "proxy_listen",
    "status_listen",
    "stream_listen",
    "prefix",
    "proxy_access_log",
    "proxy_error_log",
    "proxy_stream_access_log",
)
_START_NOTICE = "this is the kong-python embedded gateway for development and tests, not Kong"
_GRACE_SECONDS = 60.0
# How long the plugin servers of an old configuration stay for its unfinished requests, in seconds.
_RETIREMENT_SECONDS = 60.0


class GatewayError(Exception):
    """The gateway cannot start or reload. The message has the reason and a hint."""


@dataclass(frozen=True)
class _Loaded:
    """A loaded configuration and its plugin servers. Each subsystem has its own connections and plugin instances.

    As in Kong, only the HTTP subsystem runs start commands.
    """

    generation: Generation
    servers: PluginServers
    stream_servers: PluginServers | None = None

    async def stop_servers(self) -> None:
        await self.servers.stop()
        if self.stream_servers is not None:
            await self.stream_servers.stop()


class Gateway:
    """A gateway in the current event loop.

    :param log: the error log; None opens the log of the setting ``proxy_error_log``.
    :param environment: the environment of the plugin servers' query and start commands; None for that of this process.
    """

    def __init__(
        self, settings: Settings, log: ErrorLog | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._settings = settings
        self._owns_log = log is None
        self._log = log or ErrorLog(None)
        self._environment = os.environ if environment is None else environment
        self._id = settings.node_id or str(uuid.uuid4())
        self._statistics = Statistics()
        self._started_at = time.time()
        self._connections = Connections()
        self._access_streams: list[Stream] = []
        self._loaded: _Loaded | None = None
        self._application: Application | None = None
        self._proxy: Listeners | None = None
        self._status: Listeners | None = None
        self._streams: StreamListeners | None = None
        self._tls: ssl.SSLContext | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()

    @property
    def addresses(self) -> list[Address]:
        """The addresses of the HTTP proxy."""
        return list(self._proxy.addresses) if self._proxy else []

    @property
    def stream_addresses(self) -> list[Address]:
        """The addresses of the TCP proxy."""
        return list(self._streams.addresses) if self._streams else []

    @property
    def status_addresses(self) -> list[Address]:
        """The addresses of the status endpoint."""
        return list(self._status.addresses) if self._status else []

    async def start(self) -> None:
        """Load the configuration and listen. Raises :class:`GatewayError` after it has stopped everything again."""
        try:
            await self._start()
        except (DeclarativeError, PluginServerError, SettingsError, InterfaceError, OSError) as error:
            await self.stop(grace=0)
            raise GatewayError(str(error)) from error
        except BaseException:
            await self.stop(grace=0)
            raise

    async def reload(self, settings: Settings) -> None:
        """Load a new configuration. Requests in flight finish with the old one.

        Certificates and the log level change too; the addresses of listeners, the logs and the prefix do not. Raises
        :class:`GatewayError`, and the old configuration stays in use.
        """
        async with self._reloading:
            old, application = self._loaded, self._application
            if old is None or application is None:
                raise GatewayError("the gateway does not run; start it first")
            try:
                new = await self._load(settings)
                if self._tls is not None:
                    load_certificates(self._tls, settings)
                await self._start_servers(new)
            except (DeclarativeError, PluginServerError, SettingsError, InterfaceError, OSError) as error:
                raise GatewayError(str(error)) from error
            self._report_fixed_settings(settings)
            self._log.set_level(settings.log_level)
            self._loaded, self._settings = new, settings
            application.generation = new.generation
            task = asyncio.create_task(self._retire(old))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def stop(self, grace: float = _GRACE_SECONDS, graceful: bool = True) -> None:
        """Close the listeners, let requests in flight finish, and stop the plugin servers.

        :param grace: seconds until unfinished requests are broken off.
        :param graceful: False breaks off requests at once, also those that another call of ``stop`` waits for.
        """
        timeout = grace if graceful else 0.0
        all_listeners = [listeners for listeners in (self._proxy, self._status, self._streams) if listeners is not None]
        await asyncio.gather(*(listeners.close(timeout) for listeners in all_listeners))
        for task in list(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            await loaded.stop_servers()
        await self._connections.close()
        while self._access_streams:
            self._access_streams.pop().close()
        if self._owns_log:
            self._log.close()

    async def _start(self) -> None:
        settings = self._settings
        if self._owns_log:
            self._log = ErrorLog(_open_log("proxy_error_log", settings), settings.log_level)
        self._log.write("notice", _START_NOTICE)
        if settings.admin_listen not in {None, "off"}:
            self._log.write("notice", "admin_listen is skipped: the embedded gateway has no Admin API")
        if settings.http2:
            self._log.write("notice", "http2 of proxy_listen has no effect: the embedded gateway serves only HTTP/1.1")
        access_log = AccessLog(self._open_access_log("proxy_access_log"))
        self._loaded = await self._load(settings)
        self._loaded.servers.start()
        application = Application(self._loaded.generation, self._connections, access_log)
        self._application = application
        await self._listen(application, settings)

    async def _listen(self, application: Application, settings: Settings) -> None:
        def current() -> Generation:
            return application.generation

        if any(listener.ssl for listener in (*settings.proxy_listen, *settings.status_listen)):
            self._tls = server_context(settings)
        self._proxy = Listeners(application, self._statistics, CertificatePhase(current).passes)
        await self._proxy.open(settings.proxy_listen, self._tls)
        self._status = Listeners(Status(application), Statistics())
        await self._status.open(settings.status_listen, self._tls)
        if settings.stream_listen:
            stream_log = StreamAccessLog(self._open_access_log("proxy_stream_access_log"))
            self._streams = StreamListeners(StreamProxy(current, stream_log).serve, self._log)
            await self._streams.open(settings.stream_listen)

    def _open_access_log(self, name: str) -> Stream | None:
        stream = _open_log(name, self._settings)
        if stream is not None:
            self._access_streams.append(stream)
        return stream

    def _report_fixed_settings(self, settings: Settings) -> None:
        for name in _FIXED_SETTINGS:
            if getattr(settings, name) != getattr(self._settings, name):
                self._log.write("notice", f"{name} has changed; the embedded gateway applies it at its next start")

    async def _start_servers(self, loaded: _Loaded) -> None:
        try:
            loaded.servers.start()
        except BaseException:
            await loaded.stop_servers()
            raise

    async def _load(self, settings: Settings) -> _Loaded:
        servers = await PluginServers.load(settings, self._environment, self._log, BUNDLED)
        handlers = _enabled_handlers(settings, servers)
        schemas = {name: plugin.fields for name, plugin in servers.plugins.items() if name in handlers}
        if KEY_AUTH.name in handlers:
            schemas[KEY_AUTH.name] = KEY_AUTH.fields
        config = self._load_configuration(settings, schemas)
        generation = self._new_generation(settings, config, handlers)
        if not self._serves_streams(settings):
            if any("tcp" in route.protocols for route in config.routes.values()):
                self._log.write("notice", "routes for tcp are not served; set KONG_STREAM_LISTEN to an address")
            return _Loaded(generation, servers)
        stream_servers = await PluginServers.load(settings, self._environment, self._log, BUNDLED)
        registry = Registry(config.plugins, _enabled_handlers(settings, stream_servers), STREAM_PROTOCOLS)
        generation.stream = StreamSubsystem(StreamRouter(config), registry)
        return _Loaded(generation, servers, stream_servers)

    def _load_configuration(self, settings: Settings, schemas: Mapping[str, Iterable[Field]]) -> Config:
        """The declarative configuration with its secrets resolved; notices about it go to the log."""
        skipped = settings.skipped_plugins
        config = load_settings(settings, {**dict.fromkeys(skipped), **schemas})
        for notice in config.notices:
            if notice.plugin not in skipped:
                self._log.write("warn" if notice in config.skipped else "notice", str(notice))
        problem = skipped_plugins(config, skipped)
        if problem is not None:
            self._log.write("warn", str(problem))
        resolver = Resolver(Vaults(config.vaults))
        plugins = [
            replace(plugin, config=resolver.resolve(schemas.get(plugin.name, ()), plugin.config))
            for plugin in config.plugins
        ]
        for warning in dict.fromkeys(resolver.warnings):
            self._log.write("warn", warning)
        return replace(config, plugins=tuple(plugins))

    def _serves_streams(self, settings: Settings) -> bool:
        """Whether there are stream listeners. A reload does not change them."""
        return bool(settings.stream_listen if self._application is None else self._streams)

    def _new_generation(self, settings: Settings, config: Config, handlers: Mapping[str, Handler]) -> Generation:
        node = Node(
            id=self._id,
            hostname=socket.gethostname(),
            settings=settings,
            config=config,
            log=self._log,
            statistics=self._statistics,
            started_at=self._started_at,
        )
        return Generation(node, Router(config), Registry(config.plugins, handlers), Balancer(config))

    async def _retire(self, old: _Loaded) -> None:
        """Stop the plugin servers of an old configuration after its requests have ended."""
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(old.generation.drained(), _RETIREMENT_SECONDS)
        finally:
            await old.stop_servers()


def _enabled_handlers(settings: Settings, servers: PluginServers) -> dict[str, Handler]:
    """The enabled plugins by name. If a plugin server has a plugin named key-auth, Kong uses its own."""
    handlers: dict[str, Handler] = {**servers.plugins, KEY_AUTH.name: KEY_AUTH}
    return {name: handler for name, handler in handlers.items() if name in settings.plugins}


def _open_log(name: str, settings: Settings) -> Stream | None:
    """The stream of a log setting. Raises SettingsError with a hint."""
    destination = getattr(settings, name)
    try:
        return open_stream(destination, settings.prefix)
    except OSError as error:
        raise SettingsError(
            f"{name}: cannot open {settings.prefix / destination} ({error.strerror or error}); set "
            f"KONG_{name.upper()} to a file that can be written, to /dev/stdout or to off"
        ) from error
