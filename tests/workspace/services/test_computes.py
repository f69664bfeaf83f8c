import pytest

from gatecast.errors import ConflictError, NotFoundError, WorkspaceError


def test_a_compute_is_made_once_and_found_again(ws):
    made = ws.computes.create("there", nodes=2, tags={"for": "tests"}, properties={"a": "b"}, description="x")
    assert (made.name, made.kind, made.nodes, made.state) == ("there", "local", 2, "Succeeded")
    assert (made.tags, made.properties, made.description) == ({"for": "tests"}, {"a": "b"}, "x")
    assert ws.computes.get("there") == made
    assert [compute.name for compute in ws.computes.list()] == ["here", "there"]
    with pytest.raises(ConflictError, match="Compute there must not exist yet; it does"):
        ws.computes.create("there")


@pytest.mark.parametrize("name", ["", "a", "1a", "-a", "a-", "a b", "a/b", "ü1", "a" * 33, None, "a\n"])
def test_names_are_words_that_start_with_a_letter(ws, name):
    with pytest.raises(WorkspaceError, match="^Name of a compute must be 2 to 32 letters, digits or '-'"):
        ws.computes.create(name)


@pytest.mark.parametrize("name", ["ab", "My-Cluster-1", "a" * 32])
def test_names_that_are_taken(ws, name):
    assert ws.computes.create(name).name == name


@pytest.mark.parametrize("nodes", [0, -1, 1025, 1.0, True, "2", None])
def test_nodes_are_a_whole_number(ws, nodes):
    with pytest.raises(WorkspaceError) as error:
        ws.computes.create("there", nodes=nodes)
    assert str(error.value) == f"Nodes of a compute must be a whole number from 1 to 1024, not {nodes!r}"


def test_only_local_computes_are_known(ws):
    with pytest.raises(WorkspaceError, match="Kind of a compute must be local, not 'aks'"):
        ws.computes.create("there", "aks")


def test_a_compute_with_services_stays_and_names_them(ws, memory):
    for name in ("two", "one"):
        ws.services.deploy(name, "small", "here")
    with pytest.raises(ConflictError) as error:
        ws.computes.delete(ws.computes.get("here"))
    assert str(error.value) == "Compute here must have no services to be deleted, but has: one, two"
    assert ws.computes.get("here").nodes == 4


def test_a_compute_that_is_not_there(ws):
    compute = ws.computes.create("there")
    ws.computes.delete(compute)
    with pytest.raises(NotFoundError, match="Compute there is not known"):
        ws.computes.delete(compute)
    with pytest.raises(NotFoundError, match="Compute there is not known"):
        ws.computes.get("there")
