import random

import pytest

from gatecast.workspace.planning import (
    LONGEST_PAUSE_S,
    Plan,
    ReplicaState,
    Running,
    ServiceState,
    is_complete,
    judged,
    pause_s,
    plan,
)

STARTING, READY, STOPPING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.STOPPING


def replicas(*texts):
    """Replicas as ``GENERATION state``, numbered from 1."""
    return [
        Running(number, int(text.split()[0]), ReplicaState(text.split()[1].capitalize()))
        for number, text in enumerate(texts, 1)
    ]


@pytest.mark.parametrize(
    ("wanted", "running", "start", "stop"),
    [
        (2, [], 2, ()),
        (2, ["1 ready"], 1, ()),
        (2, ["1 starting"], 1, ()),
        (2, ["1 ready", "1 starting"], 0, ()),
        (2, ["1 ready", "1 stopping"], 1, ()),
        (1, ["1 ready", "1 ready", "1 ready"], 0, (2, 3)),
        (1, ["1 starting", "1 ready"], 0, (1,)),
        (0, ["1 ready", "1 starting", "1 stopping"], 0, (2, 1)),
    ],
)
def test_as_many_run_as_are_wanted_and_those_that_answer_stay(wanted, running, start, stop):
    found = plan(wanted, 1, replicas(*running))
    assert (found.start, sorted(found.stop)) == (start, sorted(stop))


@pytest.mark.parametrize(
    ("wanted", "running", "start", "stop"),
    [
        (2, ["1 ready", "1 ready"], 1, ()),
        (2, ["1 ready", "1 ready", "2 starting"], 0, ()),
        (2, ["1 ready", "1 ready", "2 ready"], 0, (1,)),
        (2, ["1 stopping", "1 ready", "2 ready"], 0, ()),
        (2, ["1 ready", "2 ready"], 1, ()),
        (2, ["1 ready", "2 ready", "2 ready"], 0, (1,)),
        (2, ["1 starting", "1 ready"], 2, (1,)),
        (1, ["1 ready"], 1, ()),
        (1, ["1 ready", "2 ready"], 0, (1,)),
        (1, ["1 ready", "1 ready"], 0, (1,)),
        (3, ["1 ready"], 3, ()),
        (2, ["1 starting"], 2, (1,)),
    ],
)
def test_a_new_generation_takes_over_one_by_one(wanted, running, start, stop):
    assert plan(wanted, 2, replicas(*running)) == Plan(start, stop)


@pytest.mark.parametrize("seed", range(60))
def test_updates_end_and_never_leave_fewer_answering_than_before(seed):
    """Replicas become ready, and end when told to, in any order; the number wanted and the image change."""
    draw = random.Random(seed)
    running: dict[int, Running] = {}
    wanted, generation, number, full = draw.randint(1, 4), 1, 0, False
    for step in range(400):
        if step < 250 and draw.random() < 0.03:
            generation += 1
        if step < 250 and draw.random() < 0.02:
            wanted, full = draw.randint(1, 4), False
        now = plan(wanted, generation, list(running.values()))
        for identity in now.stop:
            running[identity] = Running(identity, running[identity].generation, STOPPING)
        for _ in range(now.start):
            number += 1
            running[number] = Running(number, generation, STARTING)
        for replica in list(running.values()):
            if draw.random() < 0.3:
                if replica.state is STARTING:
                    running[replica.id] = Running(replica.id, replica.generation, READY)
                elif replica.state is STOPPING:
                    del running[replica.id]
        ready = sum(replica.state is READY for replica in running.values())
        full = full or ready >= wanted
        if full:
            assert ready >= wanted, "an update took away a replica before another was ready"
            live = sum(replica.state is not STOPPING for replica in running.values())
            assert live <= max(wanted, ready) + 1
    assert is_complete(wanted, generation, list(running.values()))


def test_a_service_is_complete_when_exactly_what_is_wanted_answers():
    assert is_complete(1, 2, replicas("2 ready"))
    assert is_complete(0, 2, [])
    for running in (["1 ready"], ["2 starting"], ["2 ready", "1 stopping"], ["2 ready", "2 ready"], []):
        assert not is_complete(1, 2, replicas(*running))


@pytest.mark.parametrize(
    ("before", "complete", "ready", "deaths", "after"),
    [
        ("Transitioning", False, 0, 0, "Transitioning"),
        ("Transitioning", False, 1, 2, "Transitioning"),
        ("Transitioning", False, 0, 3, "Failed"),
        ("Transitioning", False, 2, 3, "Failed"),
        ("Transitioning", True, 2, 0, "Healthy"),
        ("Healthy", True, 2, 0, "Healthy"),
        ("Healthy", False, 1, 1, "Unhealthy"),
        ("Healthy", False, 0, 1, "Unhealthy"),
        ("Unhealthy", False, 1, 9, "Unhealthy"),
        ("Unhealthy", False, 0, 3, "Failed"),
        ("Unhealthy", True, 2, 3, "Healthy"),
        ("Failed", False, 0, 0, "Failed"),
        ("Failed", True, 2, 0, "Healthy"),
        ("Unschedulable", False, 0, 0, "Transitioning"),
    ],
)
def test_states(before, complete, ready, deaths, after):
    assert judged(ServiceState(before), complete, ready, deaths) == after


def test_pauses_double_up_to_a_limit():
    assert [pause_s(deaths) for deaths in range(6)] == [0, 0.25, 0.5, 1, 2, 4]
    assert pause_s(8) == pause_s(10**6) == LONGEST_PAUSE_S


def test_waiting_ends_at_a_state_that_stays():
    unsettled = [state for state in ServiceState if not state.is_settled]
    assert unsettled == [ServiceState.TRANSITIONING, ServiceState.DELETING]
