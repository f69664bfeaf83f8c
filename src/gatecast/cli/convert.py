"""`gatecast convert`: from a registered network to a quantised one, in the background."""

import click

from gatecast.workspace import Workspace

from . import options, records
from .follow import follow
from .terminal import print_json, print_text, say


@click.command("convert")
@click.argument("model", metavar="MODEL[:VERSION]")
@click.option(
    "--inputs", multiple=True, metavar="A,B", help="Tensors that it begins with.  [default: all inputs]"
)
@click.option(
    "--outputs", multiple=True, metavar="A,B", help="Tensors that it ends with.  [default: all outputs]"
)
@click.option(
    "--format", "format_", default="bfp8", show_default=True, help="As `gatecast quantize` takes it."
)
@click.option(
    "--require-acceleration/--no-require-acceleration",
    "require_acceleration",
    default=True,
    show_default=True,
    help="Fail if no layer would run on a device.",
)
@click.option("--no-wait", is_flag=True, help="Print the operation's id and return at once.")
@records.workspace
@options.as_json
def command(
    model: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    format_: str,
    require_acceleration: bool,
    no_wait: bool,
    workspace: Workspace,
    json_: bool,
) -> None:
    """Convert a registered network into a quantised one, in the background.

    MODEL is an ONNX file, a TensorFlow SavedModel or a frozen graph. The result is registered as
    NAME.VERSION.accelonnx, standard ONNX. Tensors are named as in the network's file; `:0` may be left out,
    and `classifier_1/x` stands for `classifier/x`. The conversion runs in a process of its own;
    `gatecast operation` shows it and its log.
    """
    operation = workspace.conversions.start(
        model,
        inputs=inputs,
        outputs=outputs,
        format=format_,
        require_acceleration=require_acceleration,
    )
    if no_wait:
        print_json(records.plain(operation)) if json_ else print_text(operation.id)
        return
    operation = follow(workspace, operation, f"Conversion of {operation.subject}")
    result = workspace.conversions.result(operation)
    if json_:
        print_json({**records.plain(operation), "model": records.plain(result, id=result.id, url=result.url)})
    else:
        print_text(result.id)
    say(f"Converted {operation.subject} to {result.id}, {result.properties['format']}")
