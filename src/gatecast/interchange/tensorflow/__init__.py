"""Networks from and to TensorFlow: SavedModels, frozen graphs, and nodes in a graph that is being built.

Importing this package imports TensorFlow; `gatecast.interchange.load` does so only where it must.

Ref: docs/spec/tensorflow.md.
"""

from .image_ops import image_tensors
from .loader import load
from .writer import Written, set_variables, write_graph

__all__ = ["Written", "image_tensors", "load", "set_variables", "write_graph"]
