"""The calls about plugins and instances, alike for both protocols."""

from __future__ import annotations

import json
import logging
import os
import traceback
from typing import Any

from kong_pdk.exception_text import describe
from kong_pdk.plugin import Plugin, kong_schema
from kong_pdk.server.instances import Instance, InstanceError, Instances
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


def start(instances: Instances, call: StartInstance) -> tuple[InstanceStatus | None, str]:
    """Make an instance: its status, or None and the reason."""
    try:
        return _status(instances.start(call.name, call.config)), ""
    except InstanceError as error:
        return None, str(error)
    except BaseException as error:  # noqa: BLE001  # a plugin's __init__ may raise anything
        return None, _why(error, call.name)


def find(instances: Instances, id: int) -> Instance | None:
    """Look an instance up that may have to be made in this process first.

    :return: None where there is none, or it cannot be made, which is logged: Kong is to start it anew.
    """
    try:
        return instances.get(id)
    except InstanceError as error:
        _log.error("%s", error)
    except BaseException as error:  # noqa: BLE001  # a plugin's __init__ may raise anything
        _log.error("%s", _why(error, f"instance {id}"))
    return None


def _why(error: BaseException, whose: str) -> str:
    text = "".join(traceback.format_exception(error)).rstrip()
    return f"{whose}: __init__ raised {describe(error)}\n{text}"


def answer_call(instances: Instances, call: Call) -> Answer:
    """Answer what is neither an event nor a start; None where there is nothing of that name or id."""
    if isinstance(call, CloseInstance):
        return _status_or_none(instances.close(call.instance_id))
    if isinstance(call, GetInstanceStatus):
        return _status_or_none(find(instances, call.instance_id))
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
    """Describe the workers of the server and whether each is alive, for ``plugin.GetWorkers``: the health check's."""
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
