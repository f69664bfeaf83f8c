"""Stands for `azureml.accel`: conversion, images, and the client."""

from collections.abc import Sequence

from gatecast.workspace import Operation, State

from .client import PredictionClient
from .exceptions import ModelNotFoundException, WebserviceException, as_old
from .handle import Handle
from .image import AccelContainerImage, AccelImageConfiguration
from .model import Model
from .progress import POLL_S, printed
from .webservice import Webservice

__all__ = [
    "AccelContainerImage",
    "AccelImageConfiguration",
    "AccelOnnxConverter",
    "ModelConvertOperation",
    "PredictionClient",
    "client_from_service",
]


class AccelOnnxConverter:
    """Converts registered models."""

    @staticmethod
    def convert_tf_model(
        workspace: Handle,
        source_model: Model | str,
        input_node: str | Sequence[str],
        outputs_nodes: str | Sequence[str],
        require_fpga_conversion: bool = True,
    ) -> "ModelConvertOperation":
        """Begin to convert a TensorFlow model to quantised ONNX, in bfp8; return at once.

        Parameters
        ----------
        source_model : Model or str
            The model, or its id.
        input_node, outputs_nodes : str or sequence of str
            Names of tensors; several may be joined by commas.
        require_fpga_conversion : bool
            Whether a model without a part for the accelerator is an error.
        """
        if isinstance(source_model, str):
            try:
                source_model = Model(workspace, id=source_model)
            except WebserviceException as error:
                raise ModelNotFoundException("model not found", error.inner_exception, error.hint) from error
        if not isinstance(source_model, Model):
            raise NotImplementedError(
                "source_model must either be of type azureml.core.Model or a str of model id."
            )
        with as_old(WebserviceException):
            operation = workspace.gatecast.conversions.start(
                source_model._record,
                inputs=input_node,
                outputs=outputs_nodes,
                require_acceleration=require_fpga_conversion,
            )
        return ModelConvertOperation(workspace, operation.id)


class ModelConvertOperation:
    """A conversion that runs, or has ended."""

    def __init__(self, workspace: Handle, operation_id: str) -> None:
        if not workspace:
            raise Exception("Workspace must be provided.")
        if not operation_id:
            raise Exception("Operation id must be provided.")
        self.workspace, self.id = workspace, operation_id

    def wait_for_completion(self, show_output: bool = False, timeout: float | None = None) -> bool:
        """Wait until it has ended; return whether it succeeded. May be called again, to see the log."""
        operations = self.workspace.gatecast.operations
        show = printed(lambda operation: str(operation.state.value)) if show_output else None
        operation = operations.wait(self._operation(), timeout, on_update=show, poll=POLL_S)
        if not operation.state.ended:
            print(f"\nWait for completion timeout. Conversion state is: {operation.state.value}")
            return False
        if show_output:
            print(f'\nOperation {self.id} completed, operation state "{operation.state.value}"')
            print(f"\nsas url to download model conversion logs {operation.log.absolute().as_uri()}\n")
            print(operations.read_log(operation))
            if operation.error:
                print(f"\nModel convert failed with\nMessage: {operation.error}\n")
        return operation.state is State.SUCCEEDED

    @property
    def result(self) -> Model:
        """The converted model; ValueError unless the conversion has succeeded."""
        operation = self._operation()
        if not operation.state.ended:
            raise ValueError("Model conversion is not complete")
        if operation.result is None:
            raise ValueError("Model conversion is not successful")
        return Model(self.workspace, id=operation.result)

    @property
    def get_status(self) -> str:
        """``Succeeded``, ``Failed``, or ``InProgess``, spelt as it was."""
        state = self._operation().state
        if not state.ended:
            return "InProgess"
        return "Succeeded" if state is State.SUCCEEDED else "Failed"

    def _operation(self) -> Operation:
        with as_old(WebserviceException):
            return self.workspace.gatecast.operations.get(self.id)


def client_from_service(service: Webservice) -> PredictionClient:
    """Return a client of a service."""
    return PredictionClient(service.scoring_uri, service_name=service.name)
