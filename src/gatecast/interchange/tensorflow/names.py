"""Which tensor of a graph a caller's name means, and what else that tensor is called."""

import re
from collections.abc import Mapping, Sequence

import tensorflow as tf

from gatecast.errors import NotFoundError

from ..selection import match_name
from .nodes import Nodes, node_of, whole
from .sources import Source

_LISTED = 12
_COPY = re.compile(r"^classifier(_\d+)?/")
"""Scope of a classifier: the second one in a graph is ``classifier_1/``, whichever the documents name."""


class Names:
    """The names of one source.

    Parameters
    ----------
    nodes : Nodes
        Of the source's graph.
    """

    def __init__(self, source: Source, nodes: Nodes) -> None:
        self._source = source
        self.nodes = nodes

    def inputs(self, names: Sequence[str] | None) -> dict[str, str]:
        """Return for each input the tensor, by the name given; without names, all that there are."""
        if names is None:
            found = [node.name for node in self.nodes.graph_def.node if node.op == "Placeholder"]
            return dict(self._source.inputs) or {name: whole(name) for name in found}
        return self._resolved("Inputs", names, self._source.inputs)

    def outputs(self, names: Sequence[str] | None) -> dict[str, str]:
        """Return for each output the tensor, by the name given; without names, all that there are."""
        if names is None:
            return dict(self._source.outputs) or {name: whole(name) for name in self._ends()}
        return self._resolved("Outputs", names, self._source.outputs)

    def value(self, tensor: str) -> str:
        """Name for the value of an input: the signature's, which clients know it by, else the node's."""
        return next((key for key, named in self._source.inputs.items() if named == tensor), bare(tensor))

    def aliases(self, name: str, tensor: str) -> tuple[str, ...]:
        """Other names of an output: of the signature, with and without ``:0``, of another classifier."""
        known = [key for key, named in self._source.outputs.items() if named == tensor]
        known += [given for given, named in self._source.known.items() if named == tensor]
        if not self._source.known:
            known.append(tensor)
        if (scope := _COPY.match(tensor)) and not self._source.known:
            rest = tensor[scope.end() :]
            known += [f"{first}/{rest}" for first in ("classifier", "classifier_1")]
        known += [text.removesuffix(":0") for text in known if text.endswith(":0")]
        return tuple(text for text in dict.fromkeys(known) if text != name)

    def _ends(self) -> list[str]:
        """Nodes that make float32 tensors of an input, and that no other reads."""
        starts = [name for name, node in self.nodes.by_name.items() if node.op == "Placeholder"]
        return [
            name
            for name in sorted(self.nodes.descendants(starts) - set(starts))
            if not self.nodes.readers[name]
            and self._holds(f"{name}:0")
            and self.nodes.tensors.dtype(f"{name}:0") == tf.float32
        ]

    def _resolved(self, side: str, names: Sequence[str], keys: Mapping[str, str]) -> dict[str, str]:
        found = {name: self._tensor(name, keys) for name in names}
        wrong = [name for name, tensor in found.items() if tensor is None]
        if wrong or not names:
            raise NotFoundError(
                f"{side} of {self._source.path} must be tensors of its graph, "
                f"not {', '.join(wrong) or 'none'}",
                hint=self._offer(side, keys),
            )
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def _tensor(self, name: str, keys: Mapping[str, str]) -> str | None:
        """Find it by the rules of `match_name`; ``classifier/x`` may also mean ``classifier_1/x``."""
        first = [f"{node}:0" for node in self.nodes.by_name]
        known = {**{tensor: tensor for tensor in first}, **self._source.known, **keys}
        if (found := match_name(name, known)) is not None:
            return known[found]
        if self._holds(name):
            return name
        copies = [tensor for tensor in first if _COPY.sub("classifier/", tensor) == whole(name)]
        return copies[0] if len(copies) == 1 else None

    def _holds(self, tensor: str) -> bool:
        node, _, index = tensor.partition(":")
        return index.isdigit() and node in self.nodes.by_name and self.nodes.tensors.exists(tensor)

    def _offer(self, side: str, keys: Mapping[str, str]) -> str:
        """The names that there are, those of the signature first."""
        texts = []
        if keys:
            texts.append(
                "The signature has " + ", ".join(f"{key} ({self._shown(t)})" for key, t in keys.items())
            )
        if side == "Inputs":
            ends = [node.name for node in self.nodes.graph_def.node if node.op == "Placeholder"]
        else:
            ends = self._ends()
        if ends and not self._source.known:
            more = f" and {len(ends) - _LISTED} more" if len(ends) > _LISTED else ""
            kind = "placeholders" if side == "Inputs" else "last nodes"
            texts.append(f"the graph's {kind} are {', '.join(whole(end) for end in ends[:_LISTED])}{more}")
        text = "; ".join(texts) or "the graph has none"
        return f"{text[0].upper()}{text[1:]}."

    def _shown(self, tensor: str) -> str:
        return next((given for given, named in self._source.known.items() if named == tensor), tensor)


def bare(tensor: str) -> str:
    """Name without the index 0."""
    return node_of(tensor) if tensor.endswith(":0") else tensor
