import threading

import numpy as np
import pytest

from gatecast.serving import Code, DataPlane, Limits, Models, ModelSource, RefusalError, Spec

PICTURE = {"images": np.array([b"12"], object)}


@pytest.fixture
def session(classifier):
    return classifier()


@pytest.fixture
def models(tmp_path, session):
    (tmp_path / "x.gcast").touch()
    return Models([ModelSource("m", tmp_path / "x.gcast")], lambda path: session)


def plane_of(models, **limits):
    models.load()
    return DataPlane(models, Limits(**limits))


def refusal(call, *arguments, **options):
    with pytest.raises(RefusalError) as error:
        call(*arguments, **options)
    return error.value.code, str(error.value)


def test_a_model_that_is_not_loaded_yet_is_unavailable_to_the_original_clients(models):
    plane = DataPlane(models, Limits())
    assert refusal(plane.target, Spec()) == (Code.UNAVAILABLE, "Model m is loading")
    assert refusal(plane.target, Spec("m")) == (Code.NOT_FOUND, "Servable not found for request: Latest(m)")
    assert [int(version.state) for version in plane.statuses(Spec("m"))] == [10]


def test_the_session_gets_the_signatures_names_and_only_the_wanted_outputs(models, session):
    plane = plane_of(models)
    plane.run(plane.target(Spec()), {"Placeholder:0": PICTURE["images"]}, ["output_alias"])
    assert session.calls == [({"images": [b"12"]}, ["scores"])]


def test_a_caller_who_went_away_is_not_served(models, session):
    plane = plane_of(models)
    assert refusal(plane.run, plane.target(Spec()), PICTURE, is_wanted=lambda: False)[0] is Code.CANCELLED
    assert session.calls == []


@pytest.mark.parametrize(
    "limit",
    [
        {"timeout_s": 0.0},
        {"timeout_s": 0.0, "asked": 9.0},
        {"timeout_s": 9.0, "asked": 0.0},
        {"timeout_s": 9.0, "asked": -1.0},
    ],
)
def test_no_turn_within_the_time_is_a_deadline_exceeded(models, session, limit):
    asked = limit.pop("asked", None)
    plane = plane_of(models, **limit)
    target = plane.target(Spec())
    for _ in range(4):
        target.version.turns.acquire()
    assert refusal(plane.run, target, PICTURE, timeout_s=asked) == (
        Code.DEADLINE_EXCEEDED,
        "Model m was busy for all of 0 s",
    )
    target.version.turns.release(4)
    assert plane.run(target, PICTURE)["scores"].shape == (1, 3)


def test_failed_runs_give_their_turn_back(models):
    plane = plane_of(models, pending=1)
    target = plane.target(Spec())
    for _ in range(10):
        assert refusal(plane.run, target, {"images": np.array([b"bad"], object)})[0] is Code.INVALID_ARGUMENT
    assert plane.run(target, PICTURE)["scores"].shape == (1, 3)


def test_unloading_waits_for_the_run_in_flight(models, session):
    plane = plane_of(models)
    target = plane.target(Spec())
    answers = []
    waiting = {"images": np.array([b"wait"], object)}
    run = threading.Thread(target=lambda: answers.append(plane.run(target, waiting)))
    run.start()
    assert session.running.acquire(timeout=10)
    unload = threading.Thread(target=models.unload)
    unload.start()
    assert not session.closed
    session.released.set()
    unload.join(10)
    run.join(10)
    assert session.closed
    assert answers[0]["scores"][0][0] == 4.0
    assert refusal(plane.run, target, PICTURE)[0] is Code.UNAVAILABLE
