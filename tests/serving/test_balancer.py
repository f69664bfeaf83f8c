import json
import os

import pytest

from gatecast.serving import balancer as balancer_module
from gatecast.serving.balancer import Balancer


class Routes:
    """A routes file for one service; replicas are named by ports that nothing listens on."""

    def __init__(self, folder):
        self.path = folder / "routes.json"
        self.write()

    def write(self, *ports):
        replicas = [{"address": f"127.0.0.1:{port}", "rest_address": "127.0.0.1:1"} for port in ports]
        fresh = self.path.with_suffix(".new")
        fresh.write_text(
            json.dumps({"version": 1, "services": {"cats": {"models": [], "replicas": replicas}}})
        )
        os.replace(fresh, self.path)


@pytest.fixture
def routes(tmp_path):
    return Routes(tmp_path)


@pytest.fixture
def balancer(routes):
    routes.write(1, 2, 3)
    balancer = Balancer(routes.path, 1000)
    yield balancer
    balancer.close()


def port(replica):
    return int(replica.where.address.rpartition(":")[2])


def taken(balancer):
    """Take the next replica of another call; keep the iterator, which keeps the replica busy."""
    iterator = balancer.candidates("cats")
    return iterator, port(next(iterator))


def test_each_replica_is_given_once(balancer):
    assert sorted(port(replica) for replica in balancer.candidates("cats")) == [1, 2, 3]


def test_the_one_with_the_fewest_calls_in_flight_comes_first(balancer):
    calls = [taken(balancer) for _ in range(6)]
    assert sorted(number for _, number in calls) == [1, 1, 2, 2, 3, 3]
    free = calls[4]
    free[0].close()
    assert taken(balancer)[1] == free[1]


def test_one_that_has_failed_comes_last_for_a_while(balancer, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(balancer_module.time, "monotonic", lambda: clock[0])
    (first, *_) = balancer.candidates("cats")
    first.leave_out()
    assert [port(replica) for replica in balancer.candidates("cats")][-1] == port(first)
    assert balancer.is_up("cats")
    clock[0] += balancer_module.LEFT_OUT_S
    assert port(next(balancer.candidates("cats"))) == port(first)


def test_a_service_is_not_up_when_all_have_failed(balancer, routes):
    for replica in balancer.candidates("cats"):
        replica.leave_out()
    assert not balancer.is_up("cats")
    routes.write(4)
    balancer.refresh()
    assert balancer.is_up("cats")


def test_when_all_were_tried_those_that_are_new_since_are_given(balancer, routes):
    found = []
    for replica in balancer.candidates("cats"):
        found.append(port(replica))
        if len(found) == 3:
            routes.write(3, 4)  # nobody has looked at the file since
    assert sorted(found) == [1, 2, 3, 4]
    assert found[-1] == 4


def test_a_service_that_is_gone_has_no_candidates(balancer, routes):
    assert list(balancer.candidates("dogs")) == []


def test_a_connection_is_closed_after_its_last_call(balancer, routes, monkeypatch):
    closed = []
    monkeypatch.setattr(balancer_module.Replica, "close", lambda replica: closed.append(port(replica)))
    call, number = taken(balancer)
    routes.write()
    balancer.refresh()
    assert sorted(closed) == [other for other in (1, 2, 3) if other != number]
    call.close()
    assert closed[-1] == number
    assert len(closed) == 3


def test_a_file_that_did_not_change_is_not_read_again(balancer, monkeypatch):
    monkeypatch.setattr(balancer_module, "read_routes", lambda path: pytest.fail("read"))
    balancer.refresh()
