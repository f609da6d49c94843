"""Answers the calls about plugins and instances, for both protocols."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import Any

from kong_pdk.exception_text import log_text, traceback_line
from kong_pdk.logs import report
from kong_pdk.masking import without_secrets
from kong_pdk.plugin import Plugin, kong_schema
from kong_pdk.server.instances import Instance, InstanceError, Instances, content_key
from kong_pdk.server.instances.instance_store import Content
from kong_pdk.wire.calls import (
    Answer,
    Call,
    CloseInstance,
    GetInstanceStatus,
    GetPluginInfo,
    GetPluginNames,
    InstanceStatus,
    PluginInfo,
    PluginNames,
    StartInstance,
)

_log = logging.getLogger(__name__)


class InstanceStartError(Exception):
    """An instance cannot be made; the message says why, and is in the log."""


def start(instances: Instances, call: StartInstance) -> InstanceStatus:
    """Make an instance.

    :raises InstanceStartError: the instance cannot be made.
    """
    try:
        return _status(instances.start(call.name, call.config))
    except BaseException as error:  # noqa: BLE001  # a plugin's __init__ may raise anything
        raise _start_error(instances, error, Content(call.name, call.config)) from None


def find(instances: Instances, id: int) -> Instance | None:
    """Find an instance, and make it in this process where only another process has it.

    :return: None where the id is unknown, so that Kong must start the instance again.
    :raises InstanceStartError: the instance cannot be made; a new start by Kong would fail as well.
    """
    try:
        return instances.get(id)
    except BaseException as error:  # noqa: BLE001  # a plugin's __init__ may raise anything
        raise _start_error(instances, error, instances.content_of(id)) from None


def _start_error(instances: Instances, error: BaseException, content: Content | None) -> InstanceStartError:
    """Log why an instance cannot be made, once for each content: Kong tries again with each request."""
    if isinstance(error, InstanceError):
        line = text = str(error)
    else:
        begin = f"{content.name if content else 'a plugin'}: __init__"
        line, text = log_text(begin, error, lambda: _place(error, instances))
    is_first = instances.logged.is_first(f"{line} {content_key(content) if content else ''}")
    report(_log, logging.ERROR if is_first else logging.DEBUG, "%s", text)
    return InstanceStartError(without_secrets(line))


def _place(error: BaseException, instances: Instances) -> str:
    """Find the line in the file of any of the plugins."""
    return next(filter(None, (traceback_line(plugin.file, error) for plugin in instances.plugins.values())), "")


def answer_call(instances: Instances, call: Call) -> Answer:
    """Answer a call that is neither an event nor a start; None where the name or the id is unknown."""
    if isinstance(call, CloseInstance):
        return _status_or_none(instances.close(call.instance_id))
    if isinstance(call, GetInstanceStatus):
        with contextlib.suppress(InstanceStartError):
            return _status_or_none(find(instances, call.instance_id))
        return None
    if isinstance(call, GetPluginInfo):
        plugin = instances.plugins.get(call.name)
        return _info(plugin) if plugin else None
    if isinstance(call, GetPluginNames):
        return PluginNames(tuple(instances.plugins))
    return None


def server_status(instances: Instances) -> dict[str, Any]:
    """Describe the server, for ``plugin.GetStatus``."""
    return {
        "Pid": os.getpid(),
        "Plugins": {
            plugin.name: {
                "Name": plugin.name,
                "Version": plugin.version,
                "Priority": plugin.priority,
                "Phases": list(plugin.phases),
                "Instances": [
                    {"Name": plugin.name, "Id": instance.id, "StartTime": int(instance.started_at)}
                    for instance in instances.all()
                    if instance.plugin is plugin
                ],
            }
            for plugin in instances.plugins.values()
        },
    }


def workers(instances: Instances) -> dict[str, Any]:
    """Describe the workers of the server and whether each is alive, for ``plugin.GetWorkers`` of the health check."""
    return {
        "Workers": [
            {"Number": worker.number, "Pid": worker.pid, "Answers": worker.answers} for worker in instances.workers()
        ]
    }


def _status(instance: Instance) -> InstanceStatus:
    return InstanceStatus(instance.plugin.name, instance.id, None, int(instance.started_at))


def _status_or_none(instance: Instance | None) -> InstanceStatus | None:
    return _status(instance) if instance else None


def _info(plugin: Plugin) -> PluginInfo:
    schema = json.dumps(kong_schema(plugin))
    return PluginInfo(plugin.name, plugin.phases, plugin.version, plugin.priority, schema)
