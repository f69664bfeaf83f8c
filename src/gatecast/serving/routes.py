"""The routes file of a front door: which services there are, and where their replicas listen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatecast.errors import FileError
from gatecast.serving.refusal import Code, RefusalError

VERSION = 1
ROUTE_PREFIX = "/api/v1/service/"
HOW_TO_NAME = "Name a service as the model (--model_name), or in the header x-ms-aml-grpc-service-route."
"""The hint of what does not say, or says wrongly, which service it is for."""


@dataclass(frozen=True)
class ReplicaAddress:
    """Where one server of a service listens, as HOST:PORT: for gRPC, and for REST."""

    address: str
    rest_address: str


@dataclass(frozen=True)
class Route:
    """One service.

    Parameters
    ----------
    service : str
        Its name, which is also the name of the model that its replicas serve.
    models : tuple of str
        Other names that requests may use for it.
    replicas : tuple of ReplicaAddress
        Those that are ready.
    """

    service: str
    models: tuple[str, ...] = ()
    replicas: tuple[ReplicaAddress, ...] = ()

    def renames(self, model: str) -> bool:
        """Whether a request that names this model must name the service instead."""
        return model != self.service and model in self.models


@dataclass(frozen=True)
class Routes:
    """All services, by name."""

    services: Mapping[str, Route] = field(default_factory=dict)

    def find(self, header: str | None, model: str) -> Route:
        """Return the service that a request means.

        Parameters
        ----------
        header : str, optional
            What the original clients send: ``/api/v1/service/NAME``, or the bare name. It counts first.
        model : str
            Name in the request's model spec, of a service or of its model; empty if there is none.

        Raises
        ------
        RefusalError
            There is no such service, or the request does not say which of several.
        """
        if named := (header or "").removeprefix(ROUTE_PREFIX).strip("/"):
            if named not in self.services:
                raise RefusalError(
                    Code.NOT_FOUND, f"Service {named} is not known; {self._there_are()}", HOW_TO_NAME
                )
            return self.services[named]
        if model:
            return self._of_model(model)
        if len(self.services) != 1:
            code = Code.INVALID_ARGUMENT if self.services else Code.NOT_FOUND
            raise RefusalError(code, f"ModelSpec has no name specified; {self._there_are()}", HOW_TO_NAME)
        return next(iter(self.services.values()))

    def _of_model(self, model: str) -> Route:
        if model in self.services:
            return self.services[model]
        found = [route for route in self.services.values() if model in route.models]
        if not found:
            raise RefusalError(
                Code.NOT_FOUND,
                f"Servable not found for request: Latest({model}); {self._there_are()}",
                HOW_TO_NAME,
            )
        if len(found) > 1:
            names = ", ".join(sorted(route.service for route in found))
            raise RefusalError(
                Code.INVALID_ARGUMENT,
                f"Model {model} is served by several services; name one of {names}",
                HOW_TO_NAME,
            )
        return found[0]

    def _there_are(self) -> str:
        return f"services: {', '.join(sorted(self.services)) or 'none'}"


def read_routes(path: Path) -> Routes:
    """Read a routes file; FileError says what is wrong with it."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise _wrong(path, f"readable, but {error.strerror}") from error
    except ValueError as error:
        raise _wrong(path, f"JSON, but {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise _wrong(path, f'an object with "version": {VERSION}')
    services = document.get("services")
    if not isinstance(services, dict):
        raise _wrong(path, 'an object with "services", an object')
    return Routes({name: _route(path, name, item) for name, item in services.items()})


def _route(path: Path, name: str, item: Any) -> Route:
    if not isinstance(item, dict) or not {"models", "replicas"} <= item.keys():
        raise _wrong(path, f'one with "models" and "replicas" for service {name}')
    models, replicas = item["models"], item["replicas"]
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise _wrong(path, f'one with a list of names as "models" of service {name}')
    if not isinstance(replicas, list) or not all(_is_replica(replica) for replica in replicas):
        raise _wrong(path, f'one with "address" and "rest_address" as HOST:PORT in "replicas" of {name}')
    addresses = (ReplicaAddress(replica["address"], replica["rest_address"]) for replica in replicas)
    return Route(name, tuple(models), tuple(addresses))


def _is_replica(item: Any) -> bool:
    return isinstance(item, dict) and all(
        isinstance(item.get(key), str) and item[key].rpartition(":")[2].isdecimal()
        for key in ("address", "rest_address")
    )


def _wrong(path: Path, what: str) -> FileError:
    return FileError(
        f"Routes file {path} must be {what}",
        hint="docs/spec/services.md describes it; `gatecast service deploy` writes one and keeps it.",
    )
