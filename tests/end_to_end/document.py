"""The Python of a document of the retired service, made one script, with a table of edits."""

import os
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "GATECAST_DOCUMENTS"
"""Environment variable with the folder of the documents."""

LABELS = "https://raw.githubusercontent.com/Lasagne/Recipes/master/examples/resnet50/imagenet_classes.txt"


@dataclass(frozen=True)
class Edit:
    """One edit: all of `old` becomes `new`; where `new` is None, a block that has it is left out."""

    old: str
    new: str | None
    reason: str


EDITS = (
    Edit(
        "import tensorflow as tf",
        "import tensorflow.compat.v1 as tf; tf.disable_v2_behavior()",
        "The document is written for TensorFlow 1",
    ),
    Edit(LABELS, "$LABELS", "The names of the classes are served by this machine"),
    Edit('"classifier/resnet_v1_152/', None, "Output of another network: ResNet-152"),
    Edit('"classifier/densenet121/', None, "Output of another network: DenseNet-121"),
    Edit('"classifier/vgg_16/', None, "Output of another network: VGG-16"),
    Edit("'ssd_300_vgg/", None, "Outputs of another network: SSD-VGG"),
)


def document(number: str) -> str | None:
    """Text of a document by its number; None where the documents are not here."""
    folder = os.environ.get(VARIABLE)
    files = sorted(Path(folder).glob(f"{number}_*.txt")) if folder else []
    return files[0].read_text(encoding="utf-8") if files else None


def python_blocks(text: str) -> list[str]:
    """Python blocks of a document, in order, without their indentation."""
    return [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", text, re.S | re.M)]


def edited(blocks: list[str], labels: str) -> list[str]:
    """The blocks after all edits; `labels` is the address of the file of class names."""
    kept = []
    for block in blocks:
        if any(edit.new is None and edit.old in block for edit in EDITS):
            continue
        for edit in EDITS:
            if edit.new is not None:
                block = block.replace(edit.old, edit.new.replace("$LABELS", labels))
        kept.append(block)
    return kept


def edits_as_table() -> str:
    """The edits as they stand in docs/guides/azureml.md."""
    rows = [
        f"| `{edit.old}` | {'left out' if edit.new is None else f'`{edit.new}`'} | {edit.reason} |"
        for edit in EDITS
    ]
    return "\n".join(["| the document's | becomes | because |", "|---|---|---|", *rows])
