"""Whether the server takes requests, as load balancers and probes ask."""

from dataclasses import dataclass

from gatecast.protocol import HEALTH_SERVICE, MODEL_SERVICE, PREDICTION_SERVICE

# TensorFlow Serving registers its services under their short names; other servers use full ones.
_NAMES = frozenset(
    ("", "PredictionService", "ModelService", PREDICTION_SERVICE, MODEL_SERVICE, HEALTH_SERVICE)
)


@dataclass
class Health:
    """True `ready` is SERVING: models are loaded, and the server is not stopping."""

    ready: bool = False

    def knows(self, service: str) -> bool:
        """Whether a check may name this service."""
        return service in _NAMES
