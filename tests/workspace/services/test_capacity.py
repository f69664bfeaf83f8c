import pytest

from gatecast.errors import CapacityError
from gatecast.workspace.capacity import MIB, machine_memory, replica_memory

SMALL = 151  # MiB of a replica with an artifact of 1000 bytes


def refused(call, *arguments, **options):
    with pytest.raises(CapacityError) as error:
        call(*arguments, **options)
    return str(error.value), error.value.hint


def test_an_estimate_is_above_what_was_measured():
    resnet50 = replica_memory(26_550_688)
    assert 196 * MIB < resnet50 < 230 * MIB


def test_more_replicas_than_free_nodes_are_refused_with_a_table(ws, memory):
    ws.services.deploy("one", "small", "here", replicas=3)
    text, hint = refused(ws.services.deploy, "two", "small", "here", replicas=2)
    assert text.splitlines() == [
        "Service two asks for 2 nodes, but compute here has 1 free of 4",
        "                  nodes  memory of each",
        "compute here          4       25000 MiB",
        "used by one           3         151 MiB",
        "free                  1       25000 MiB",
        "asked for by two      2         151 MiB",
    ]
    assert hint == "Delete a service, ask for fewer replicas, or make a compute with more nodes."
    assert [service.name for service in ws.services.list()] == ["one"]
    ws.services.deploy("two", "small", "here", replicas=1)


def test_a_replica_larger_than_a_node_is_refused(ws, memory):
    memory(4 * SMALL - 4)
    text, hint = refused(ws.services.deploy, "one", "small", "here")
    assert text.splitlines()[0] == (
        "Service one needs 151 MiB of memory for a replica, but a node of compute here has 150 MiB"
    )
    assert hint == "Use a compute with fewer nodes, or a machine with more memory."
    assert ws.services.list() == []


def test_all_computes_share_the_machine(ws, memory):
    memory(4 * SMALL)
    ws.computes.create("there", nodes=2)
    ws.services.deploy("one", "small", "here", replicas=3)
    text, _ = refused(ws.services.deploy, "two", "small", "there", replicas=2)
    assert text.splitlines()[0] == (
        "Service two needs 301 MiB of memory, "
        "but of the machine's 604 MiB services on all computes need 451 MiB"
    )
    ws.services.deploy("two", "small", "there", replicas=1)


def test_an_update_needs_room_for_a_new_replica_beside_an_old_one(ws, memory):
    memory(4 * SMALL)
    service = ws.services.deploy("one", "small:1", "here")
    text, hint = refused(ws.services.update, service, image="small:2")
    assert text.splitlines()[0] == (
        "Service one needs 151 MiB of memory for a replica, with 151 MiB of the one that it replaces, "
        "but a node of compute here has 151 MiB"
    )
    assert hint == "Delete the service and deploy it again."
    assert ws.services.get("one") == service
    memory(8 * SMALL)
    assert ws.services.update(service, image="small:2").image == "small:2"


def test_an_update_to_more_replicas_counts_only_the_nodes_of_others(ws, memory):
    service = ws.services.deploy("one", "small", "here", replicas=3)
    assert ws.services.update(service, replicas=4).replicas == 4
    text, _ = refused(ws.services.update, service, replicas=5)
    assert text.splitlines()[0] == "Service one asks for 5 nodes, but compute here has 4 free of 4"


@pytest.fixture
def machine(tmp_path):
    """A root folder with files that tell of memory."""

    def write(**files):
        for name, text in {"proc/meminfo": "MemFree: 1 kB\nMemTotal:  1024 kB\n", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return machine_memory(tmp_path)

    return write


def test_memory_of_the_machine(machine):
    assert machine() == MIB


def test_a_control_group_limits_it(machine):
    assert machine(**{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "5000\n"}) == 5000


def test_so_does_a_group_around_it(machine):
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/memory.max": "7000\n",
    }
    assert machine(**files) == 7000


def test_a_container_sees_its_group_as_the_root(machine):
    assert machine(**{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "6000\n"}) == 6000


def test_control_groups_of_version_1(machine):
    files = {
        "proc/self/cgroup": "5:cpu,memory:/c\n3:cpuset:/d\n",
        "sys/fs/cgroup/memory/c/memory.limit_in_bytes": "8000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert machine(**files) == 8000


def test_this_machine_has_memory():
    assert machine_memory() > 64 * MIB
