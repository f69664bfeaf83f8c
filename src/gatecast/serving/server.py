"""A running server: models behind both faces."""

import logging
from collections.abc import Sequence

from gatecast.serving.data_plane import DataPlane
from gatecast.serving.grpc_api import GrpcApi
from gatecast.serving.models import Models, ModelSource, OpenSession
from gatecast.serving.rest_api import RestApi
from gatecast.serving.running import Listening, ServerOptions

logger = logging.getLogger(__name__)


class Server(Listening):
    """Serves models over gRPC and REST.

    Parameters
    ----------
    sources : sequence of ModelSource
        What to serve.
    open_session : callable
        Opens the artifact at a path, as `gatecast.runtime` does.
    options : ServerOptions
        Ports and limits.

    Raises
    ------
    FileError
        A source has no artifact.
    """

    def __init__(
        self, sources: Sequence[ModelSource], open_session: OpenSession, options: ServerOptions | None = None
    ) -> None:
        self._options = options or ServerOptions()
        super().__init__(self._options, "gatecast-grpc")
        self.models = Models(sources, open_session)
        self._plane = DataPlane(self.models, self._options.limits)

    @property
    def ready(self) -> bool:
        """Whether models are loaded and requests are taken."""
        return self._health.ready

    def start(self) -> None:
        """Listen, load the models, then be ready; the attributes `port` and `rest_port` are set.

        Raises
        ------
        ServingError
            A port cannot be had.
        GatecastError
            A model cannot be loaded.
        """
        try:
            self._listen(GrpcApi(self._plane, self._health), RestApi(self._plane, self._health))
            self.models.load()
        except BaseException:
            self.stop()
            raise
        self._health.ready = True

    def stop(self) -> None:
        """Finish the predictions in flight, close the ports, unload the models.

        Meanwhile the server says that it is not ready, and refuses new predictions as unavailable. What
        takes longer than the grace is left behind.
        """
        self._health.ready = False
        drained = self._plane.drain(self._options.grace_s)
        self._close(drained)
        if drained:
            self.models.unload()
        else:
            logger.warning(
                "Predictions still run after %.3g s; their models stay loaded", self._options.grace_s
            )
