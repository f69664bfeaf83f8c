"""Stands for `azureml.accel.models`: networks as nodes of the TensorFlow graph that a script builds.

Gatecast's networks are quantised when a model is converted, so the classes called Quantized build the same
float graph as the others.
"""

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from gatecast.errors import FileError, GraphError, NotFoundError
from gatecast.interchange.tensorflow import image_tensors, set_variables, write_graph
from gatecast.zoo import FEATURES, Original, azureml_preprocessing, original, original_graphs, original_names

__all__ = [
    "Densenet121",
    "DoesNotExistError",
    "QuantizedDensenet121",
    "QuantizedResnet50",
    "QuantizedResnet152",
    "QuantizedSsdVgg",
    "QuantizedVgg16",
    "Resnet50",
    "Resnet152",
    "SsdVgg",
    "Vgg16",
    "preprocess_array",
]

v1 = tf.compat.v1


class DoesNotExistError(ValueError):
    """A model, or a part of one, that there is not."""


def preprocess_array(
    in_images: Any,
    order: str = "RGB",
    scaling_factor: float = 1.0,
    output_height: int = 224,
    output_width: int = 224,
    preserve_aspect_ratio: bool = True,
) -> Any:
    """Add the nodes that decode and prepare a vector of encoded pictures; return float32 [?, H, W, 3].

    With `preserve_aspect_ratio` the shorter side becomes 256 and the centre is cropped to a square of
    `output_height`; else the whole picture is resized. The means of ImageNet are subtracted, then the result
    is multiplied by `scaling_factor`.
    """
    if order not in ("RGB", "BGR"):
        raise ValueError("can only construct in RGB or BGR order.")
    rule = azureml_preprocessing(order, scaling_factor, output_height, output_width, preserve_aspect_ratio)
    return image_tensors(in_images, rule)


class _AccelModel:
    """What the models share."""

    _name: ClassVar[str]

    def __init__(self, model_base_path: str | os.PathLike[str], is_frozen: bool = False) -> None:
        try:
            self._original: Original = original(self._name)
        except NotFoundError as error:
            raise DoesNotExistError(f"{error}. {error.hint}") from error
        self._graphs = original_graphs(self._name)
        print(self._graphs.notice)
        self._base, self._is_frozen = os.fspath(model_base_path), is_frozen
        self._custom_weights: str | None = None
        self._variables: tuple[tuple[Any, Any], ...] = ()
        self._inputs, self._outputs = ["InputImage:0"], [f"{FEATURES}:0"]

    def import_graph_def(self, input_tensor: Any = None, is_training: bool = True) -> Any:
        """Add the featurizer to the default graph; return its features, [?, 1, 1, channels].

        Batch norms use their stored statistics, whatever `is_training` says.
        """
        if tf.executing_eagerly():
            raise GraphError(
                f"{self._name} must be imported into a graph, not run eagerly",
                hint="import tensorflow.compat.v1 as tf; tf.disable_v2_behavior()",
            )
        if FEATURES in {operation.name for operation in v1.get_default_graph().get_operations()}:
            raise GraphError(
                f"Graph must hold one featurizer; it has a node {FEATURES} already",
                hint="Call tf.reset_default_graph() first.",
            )
        if input_tensor is None:
            input_tensor = v1.placeholder(tf.float32, self._original.input_dims, name="InputImage")
        features = self._graphs.features
        written = write_graph(
            features,
            {features.inputs[0].name: input_tensor},
            names=original_names(self._original.scope),
            variables=True,
            trainable=not self._is_frozen,
        )
        self._variables = written.variables
        result = written.tensors[features.outputs[0]]
        self._inputs, self._outputs = [input_tensor.name], [result.name]
        return result

    def get_default_classifier(self, input_tensor: Any, prefix: str = "classifier") -> Any:
        """Add the classifier of ImageNet, with constants for weights; return probabilities [?, 1000].

        The first one in a graph lies in the scope `prefix`, the second in ``prefix_1``.
        """
        classifier = self._graphs.classifier
        with v1.name_scope(prefix):
            written = write_graph(
                classifier,
                {classifier.inputs[0].name: input_tensor},
                names=original_names(self._original.scope),
            )
        return written.tensors[classifier.outputs[0]]

    def restore_weights(self, session: Any) -> None:
        """Give the featurizer's variables their values: the network's, or those of the custom folder."""
        self._check_imported()
        if self._custom_weights is None:
            set_variables(session, self._variables)
            return
        checkpoint = tf.train.latest_checkpoint(self._custom_weights)
        if checkpoint is None:
            raise FileError(f"Folder {self._custom_weights} must hold a checkpoint; it holds none")
        self._saver().restore(session, checkpoint)

    def save_weights(self, path: str, session: Any = None) -> None:
        """Write the featurizer's variables as a checkpoint, from the default session unless one is given."""
        self._check_imported()
        self._saver().save(session or v1.get_default_session(), path, write_meta_graph=False)

    def _saver(self) -> Any:
        return v1.train.Saver([variable for variable, _ in self._variables])

    def _check_imported(self) -> None:
        if not self._variables:
            raise GraphError(f"{self._name} must be imported first", hint="Call import_graph_def.")

    @property
    def version(self) -> str:
        """Version of the original's weights whose place this model takes."""
        return self._original.version

    @property
    def model_version(self) -> str:
        """The same."""
        return self._original.version

    @property
    def model_ref(self) -> str:
        """Short name of the network."""
        return self._original.reference

    @property
    def model_path(self) -> str:
        """Folder in which the original kept its weights; Gatecast has its own cache."""
        return os.path.join(self._base, self._original.folder, self._original.version)

    @property
    def input_tensor_list(self) -> Sequence[str]:
        """Names of the tensors that the featurizer reads."""
        return self._inputs

    @property
    def output_tensor_list(self) -> Sequence[str]:
        """Names of the tensors that it makes."""
        return self._outputs

    def get_input_dims(self, index: int = 0) -> list[int | None]:
        """Shape of an input."""
        return [self._original.input_dims][index]

    def get_output_dims(self, index: int = 0) -> list[int | None]:
        """Shape of an output."""
        return [self._original.output_dims][index]


class _QuantizedModel(_AccelModel):
    """A model that may take weights of its own, as `save_weights` writes them."""

    def __init__(
        self,
        model_base_path: str | os.PathLike[str],
        is_frozen: bool = False,
        custom_weights_directory: str | None = None,
    ) -> None:
        super().__init__(model_base_path, is_frozen)
        self._custom_weights = custom_weights_directory


class Resnet50(_AccelModel):
    """ResNet-50, float."""

    _name = "Resnet50"


class QuantizedResnet50(_QuantizedModel):
    """ResNet-50."""

    _name = "QuantizedResnet50"


class Resnet152(_AccelModel):
    """ResNet-152, float; not known here yet."""

    _name = "Resnet152"


class QuantizedResnet152(_QuantizedModel):
    """ResNet-152; not known here yet."""

    _name = "QuantizedResnet152"


class Densenet121(_AccelModel):
    """DenseNet-121, float; not known here yet."""

    _name = "Densenet121"


class QuantizedDensenet121(_QuantizedModel):
    """DenseNet-121; not known here yet."""

    _name = "QuantizedDensenet121"


class Vgg16(_AccelModel):
    """VGG-16, float; not known here yet."""

    _name = "Vgg16"


class QuantizedVgg16(_QuantizedModel):
    """VGG-16; not known here yet."""

    _name = "QuantizedVgg16"


class SsdVgg(_AccelModel):
    """SSD on VGG-16, float; not known here yet."""

    _name = "SsdVgg"


class QuantizedSsdVgg(_QuantizedModel):
    """SSD on VGG-16; not known here yet."""

    _name = "QuantizedSsdVgg"
