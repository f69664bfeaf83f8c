"""What a service needs next, and how it is: functions of what is wanted and what runs, nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

QUICK_DEATHS = 3
"""So many replicas that end soon after their start, one after the other, are a failure."""

LONGEST_PAUSE_S = 30.0
_FIRST_PAUSE_S = 0.25


class ServiceState(StrEnum):
    """Of a service."""

    TRANSITIONING = "Transitioning"
    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    FAILED = "Failed"
    UNSCHEDULABLE = "Unschedulable"
    DELETING = "Deleting"

    @property
    def is_settled(self) -> bool:
        """Whether waiting for it is over."""
        return self not in (ServiceState.TRANSITIONING, ServiceState.DELETING)


class ReplicaState(StrEnum):
    """Of a replica: its process runs; it answers; it finishes what it has and ends."""

    STARTING = "Starting"
    READY = "Ready"
    STOPPING = "Stopping"


@dataclass(frozen=True)
class Running:
    """A replica, as planning sees it."""

    id: int
    generation: int
    state: ReplicaState
    node: int = 0


@dataclass(frozen=True)
class Plan:
    """How many replicas of the wanted generation to start, and which to stop."""

    start: int
    stop: tuple[int, ...]


def plan(wanted: int, generation: int, replicas: Sequence[Running]) -> Plan:
    """Return the next steps towards `wanted` replicas of a generation and none of others.

    While replicas of an older generation answer, as many as are wanted go on answering: one of the new starts
    above the number, and only when it is ready does one of the old stop.
    """
    live = [replica for replica in replicas if replica.state is not ReplicaState.STOPPING]
    current = sorted(
        (replica for replica in live if replica.generation == generation),
        key=lambda replica: (replica.state is not ReplicaState.READY, replica.id),
    )
    kept, surplus = current[:wanted], current[wanted:]
    old = [replica for replica in live if replica.generation != generation]
    old_ready = [replica for replica in old if replica.state is ReplicaState.READY]
    never_ready = [replica for replica in old if replica.state is not ReplicaState.READY]
    ready = sum(replica.state is ReplicaState.READY for replica in kept)
    replaced = old_ready[: max(ready + len(old_ready) - wanted, 0)]
    missing = wanted - len(kept)
    if old_ready:
        stopping = len(replicas) - len(live)
        missing = max(min(missing, wanted + 1 - len(kept) - len(old_ready) - stopping), 0)
    return Plan(missing, tuple(replica.id for replica in (*never_ready, *surplus, *replaced)))


def is_complete(wanted: int, generation: int, replicas: Sequence[Running]) -> bool:
    """Whether exactly the wanted replicas run, and all answer."""
    return len(replicas) == wanted and all(
        replica.generation == generation and replica.state is ReplicaState.READY for replica in replicas
    )


def judged(before: ServiceState, complete: bool, ready: int, deaths: int) -> ServiceState:
    """Return the state of a service that is not being deleted.

    Parameters
    ----------
    before : ServiceState
        Its state until now; Transitioning since the last deploy or update until it was complete.
    complete : bool
        As `is_complete` says.
    ready : int
        Replicas that answer, of any generation.
    deaths : int
        Quick ones, one after the other.
    """
    if complete:
        return ServiceState.HEALTHY
    arriving = before in (ServiceState.TRANSITIONING, ServiceState.FAILED, ServiceState.UNSCHEDULABLE)
    if deaths >= QUICK_DEATHS and (arriving or not ready):
        return ServiceState.FAILED
    if arriving:
        return before if before is ServiceState.FAILED else ServiceState.TRANSITIONING
    return ServiceState.UNHEALTHY


def pause_s(deaths: int) -> float:
    """Return how long to wait before the next start, after so many quick deaths in a row."""
    return min(_FIRST_PAUSE_S * 2 ** min(deaths - 1, 20), LONGEST_PAUSE_S) if deaths else 0.0
