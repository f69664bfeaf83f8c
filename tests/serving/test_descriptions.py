from pathlib import Path

from gatecast.errors import DeviceError, FileError
from gatecast.serving import ModelVersion, State
from gatecast.serving.descriptions import status_response


def test_a_version_that_failed_tells_why():
    versions = [
        ModelVersion("m", 3, Path("x"), State.AVAILABLE),
        ModelVersion("m", 2, Path("x"), State.END, FileError("weights must be whole")),
        ModelVersion("m", 1, Path("x"), State.END, DeviceError("device is gone")),
    ]
    assert [
        (item.version, item.state, item.status.error_code, item.status.error_message)
        for item in status_response(versions).model_version_status
    ] == [(3, 30, 0, ""), (2, 50, 9, "weights must be whole"), (1, 50, 2, "device is gone")]


def test_the_status_of_a_healthy_version_is_there_though_it_is_empty():
    response = status_response([ModelVersion("m", 1, Path("x"), State.START)])
    assert response.model_version_status[0].HasField("status")
