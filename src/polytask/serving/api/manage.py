"""Management of adapters, by name only, never by path or URL.

Unloading and traffic shares last until the server stops; aliases are written to the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import JSONResponse

from polytask.errors import PolytaskError, StoreError
from polytask.serving.api.access import as_json, ok, router, service_of
from polytask.serving.faults import Fault, fault_of
from polytask.serving.schemas import AliasRequest, Managed, Reference, Task, TrafficRequest

log = logging.getLogger(__name__)
routes = router("manage", "management")
Name = Annotated[Reference, Path()]
TaskName = Annotated[Task, Path()]
AliasName = Annotated[Task, Path()]


@routes.post("/v1/adapters/{name}/load", responses=ok(Managed))
async def load(request: Request, name: Name) -> JSONResponse:
    """Scan the store now, serve this task or version, and load it into memory."""
    service = service_of(request)
    service.catalog.show(name)
    await service.refresh()
    entry = service.catalog.resolve(name)
    try:
        await service.residency.hold(str(entry))
    except PolytaskError as error:
        raise fault_of(error, param="name") from error
    service.residency.release(str(entry))
    return as_json({"id": str(entry), "status": "loaded"})


@routes.post("/v1/adapters/{name}/unload", responses=ok(Managed))
async def unload(request: Request, name: Name) -> JSONResponse:
    """Stop serving this task (all versions) or this version; requests in progress are still answered."""
    service = service_of(request)
    entry = service.catalog.resolve(name)
    whole = "@" not in name
    gone = [e for e in service.catalog.entries() if e.task == entry.task and (whole or e.version == entry.version)]
    service.catalog.hide(entry.task if whole else str(entry))
    for version in gone:
        service.residency.drop(str(version))
    return as_json({"id": entry.task if whole else str(entry), "status": "unloaded"})


@routes.put("/v1/adapters/{task}/aliases/{alias}", responses=ok(Managed))
async def alias(request: Request, body: AliasRequest, task: TaskName, alias: AliasName) -> JSONResponse:
    """Point an alias to a version, in the store."""
    service = service_of(request)
    entry = service.catalog.resolve(f"{task}@{body.version}")
    await _in_store(request, lambda: service.store.alias(str(entry), alias))
    return as_json({"id": f"{task}@{alias}", "status": str(entry)})


@routes.delete("/v1/adapters/{task}/aliases/{alias}", responses=ok(Managed))
async def unalias(request: Request, task: TaskName, alias: AliasName) -> JSONResponse:
    """Delete an alias; the version stays."""
    service = service_of(request)
    if alias not in service.catalog.aliases(task):
        raise Fault("not_found", f"{task!r} has no alias {alias!r}", param="alias")
    await _in_store(request, lambda: service.store.unalias(f"{task}@{alias}"))
    return as_json({"id": f"{task}@{alias}", "status": "removed"})


@routes.put("/v1/adapters/{task}/traffic", responses=ok(Managed))
async def traffic(request: Request, body: TrafficRequest, task: TaskName) -> JSONResponse:
    """Split a task's traffic between its versions."""
    service = service_of(request)
    service.catalog.resolve(task)
    if body.shares and not sum(body.shares.values()):
        raise Fault("malformed", "all shares are 0; give at least one that is positive", param="shares")
    service.catalog.set_shares(task, {int(version): share for version, share in body.shares.items()})
    return as_json({"id": task, "status": "shared out" if body.shares else "latest"})


async def _in_store(request: Request, change: Callable[[], None]) -> None:
    """Change the store in a thread, then scan it.

    Raises:
        Fault: the store refuses the change; the message has no path.
    """
    try:
        await asyncio.to_thread(change)
    except StoreError as error:
        log.warning("the store cannot be changed: %s", error)
        if "cannot be an alias" in str(error):
            raise Fault("malformed", str(error), param="alias") from error
        raise Fault("conflict", "the store cannot be changed; the server's log has the reason") from error
    await service_of(request).refresh()
