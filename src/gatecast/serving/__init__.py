"""A server that speaks TensorFlow Serving's protocol over gRPC and REST."""

from gatecast.serving.binding import Spec, Target
from gatecast.serving.data_plane import DataPlane, Limits
from gatecast.serving.front_door import FrontDoor, FrontDoorOptions
from gatecast.serving.models import Models, ModelSource, ModelVersion, OpenSession, Session, State
from gatecast.serving.refusal import Code, RefusalError
from gatecast.serving.running import ServerOptions
from gatecast.serving.server import Server

__all__ = [
    "Code",
    "DataPlane",
    "FrontDoor",
    "FrontDoorOptions",
    "Limits",
    "ModelSource",
    "ModelVersion",
    "Models",
    "OpenSession",
    "RefusalError",
    "Server",
    "ServerOptions",
    "Session",
    "Spec",
    "State",
    "Target",
]
