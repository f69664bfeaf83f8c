import json
import re

import pytest

from gatecast.errors import FileError
from gatecast.serving.refusal import RefusalError
from gatecast.serving.routes import HOW_TO_NAME, ReplicaAddress, Route, Routes, read_routes

CATS = Route("cats", ("resnet50", "shared"), (ReplicaAddress("127.0.0.1:1", "127.0.0.1:2"),))
DOGS = Route("dogs", ("vgg16", "shared"))
BOTH = Routes({"cats": CATS, "dogs": DOGS})


def refused(routes, header, model):
    with pytest.raises(RefusalError) as error:
        routes.find(header, model)
    assert error.value.hint == HOW_TO_NAME
    return error.value.code.name, str(error.value)


@pytest.mark.parametrize("header", ["/api/v1/service/dogs", "/api/v1/service/dogs/", "dogs"])
def test_the_header_names_a_service_whatever_the_model(header):
    assert BOTH.find(header, "") is DOGS
    assert BOTH.find(header, "cats") is DOGS


@pytest.mark.parametrize(("name", "route"), [("cats", CATS), ("dogs", DOGS), ("vgg16", DOGS)])
def test_without_a_header_the_model_names_the_service(name, route):
    assert BOTH.find(None, name) is route
    assert BOTH.find("", name) is route


def test_the_name_of_a_service_comes_before_that_of_a_model():
    odd = Route("vgg16")
    assert Routes({"dogs": DOGS, "vgg16": odd}).find(None, "vgg16") is odd


@pytest.mark.parametrize("header", [None, "", "/", "/api/v1/service/"])
def test_the_only_service_answers_what_names_none(header):
    assert Routes({"cats": CATS}).find(header, "") is CATS


def test_what_is_not_known_is_told_with_what_there_is():
    assert refused(BOTH, "/api/v1/service/birds", "") == (
        "NOT_FOUND",
        "Service birds is not known; services: cats, dogs",
    )
    assert refused(BOTH, None, "birds") == (
        "NOT_FOUND",
        "Servable not found for request: Latest(birds); services: cats, dogs",
    )
    assert refused(Routes(), None, "") == ("NOT_FOUND", "ModelSpec has no name specified; services: none")


def test_what_may_mean_several_is_refused():
    assert refused(BOTH, None, "") == (
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified; services: cats, dogs",
    )
    assert refused(BOTH, None, "shared") == (
        "INVALID_ARGUMENT",
        "Model shared is served by several services; name one of cats, dogs",
    )


def test_only_other_names_of_a_service_are_renamed():
    assert [CATS.renames(name) for name in ("cats", "resnet50", "dogs", "")] == [False, True, False, False]


def test_a_file_is_read(tmp_path):
    path = tmp_path / "routes.json"
    replicas = [{"address": "127.0.0.1:1", "rest_address": "127.0.0.1:2", "more": 1}]
    services = {"cats": {"models": ["resnet50", "shared"], "replicas": replicas}}
    path.write_text(json.dumps({"version": 1, "services": services}))
    assert read_routes(path) == Routes({"cats": CATS})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "readable, but No such file or directory"),
        ("", "JSON, but Expecting value: line 1 column 1 (char 0)"),
        ("\xff", "JSON, but "),
        ("[]", 'an object with "version": 1'),
        ('{"version": 2}', 'an object with "version": 1'),
        ('{"version": 1}', 'an object with "services", an object'),
        ('{"version": 1, "services": {"s": {}}}', 'one with "models" and "replicas" for service s'),
        (
            '{"version": 1, "services": {"s": {"models": "m", "replicas": []}}}',
            'one with a list of names as "models" of service s',
        ),
        (
            '{"version": 1, "services": {"s": {"models": [], "replicas": [{"address": "x:1"}]}}}',
            'one with "address" and "rest_address" as HOST:PORT in "replicas" of s',
        ),
    ],
)
def test_a_file_that_is_not_well_formed_is_told(tmp_path, text, what):
    path = tmp_path / "routes.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FileError, match=re.escape(f"Routes file {path} must be {what}")):
        read_routes(path)
