"""The one exception tree: everything Gatecast raises on purpose.

GatecastError
├── FormatError         a number format, or a value for one, that cannot exist
├── GraphError          a network that is not well formed, or a step that does not apply to it
├── UnsupportedError    operators, or features of one, that Gatecast has no layer for; all of them listed
├── FileError           a file that is missing, truncated, corrupt, or of another kind or version
├── ProgramError        a Program that breaks a rule of the instruction set
├── CompileError        a network that does not fit an Architecture
├── DeviceError         a device that is unknown, missing, or failed
├── RequestError        the inputs of one run do not match the signature: the caller's mistake
│   └── ImageError      bytes that are no picture that can be decoded
├── NotFoundError       a name that is not known: model, version, network, preprocessing, label
├── WorkspaceError      a workspace that is none, is damaged, or is asked for what it cannot do
│   ├── ConflictError   what is there already, or is in use
│   └── CapacityError   a service that does not fit on its compute
├── DownloadError       a file that could not be fetched, or not as published
└── ServingError        a server that cannot start, or an answer that did not come

`str(error)` says what and where; `error.hint` says what to do. No transport appears here: faces map
the classes to status codes.
"""


class GatecastError(Exception):
    """Base class. Catch this to catch them all.

    Parameters
    ----------
    message : str
        What is wrong, and where: ``Thing must be this, not that``.
    hint : str, optional
        What to do about it. Each class has a general one.
    """

    default_hint = "See `gatecast --help`."

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint or self.default_hint


class FormatError(GatecastError, ValueError):
    """A number format, or a value for one, that cannot exist."""

    default_hint = "Formats are bfp4, bfp5, bfp6, bfp7, bfp8, or weights/activations as in bfp5/bfp6."


class GraphError(GatecastError, ValueError):
    """A network that is not well formed, or a step that does not apply to it."""

    default_hint = "`gatecast inspect FILE` shows the layers of a network and their shapes."


class UnsupportedError(GatecastError):
    """Operators, or features of one, that Gatecast has no layer for."""

    default_hint = "Export the network without these operators, or cut it before them."


class FileError(GatecastError):
    """A file that is missing, truncated, corrupt, or of another kind or version."""

    default_hint = "Make the file again, or copy it again from where it came."


class ProgramError(GatecastError, ValueError):
    """A Program that breaks a rule of the instruction set."""

    default_hint = "Compile the network again with this version of Gatecast."


class CompileError(GatecastError):
    """A network that does not fit an Architecture."""

    default_hint = "Compile for a larger target, such as `--target software`."


class DeviceError(GatecastError):
    """A device that is unknown, missing, or failed."""

    default_hint = "Try `--device reference`, which runs everywhere."


class RequestError(GatecastError, ValueError):
    """The inputs of one run do not match the signature: the caller's mistake."""

    default_hint = "`gatecast inspect FILE` shows the inputs and outputs of a model."


class ImageError(RequestError):
    """Bytes that are no picture that can be decoded."""

    default_hint = "Send the bytes of a whole JPEG or PNG file."


class NotFoundError(GatecastError, LookupError):
    """A name that is not known."""

    default_hint = "Check the spelling of the name."


class WorkspaceError(GatecastError):
    """A workspace that is none, is damaged, or is asked for what it cannot do."""

    default_hint = "`gatecast workspace show` says which workspace is used, and what is in it."


class ConflictError(WorkspaceError):
    """What is there already, or is in use."""

    default_hint = "Choose another name, or delete what is there or uses it."


class CapacityError(WorkspaceError):
    """A service that does not fit on its compute: nodes, or memory."""

    default_hint = "Delete a service, ask for fewer replicas, or make a compute with more nodes."


class DownloadError(GatecastError):
    """A file that could not be fetched, or not as published."""

    default_hint = "Try again, or put the file into the folder that GATECAST_WEIGHTS names."


class ServingError(GatecastError):
    """A server that cannot start, or an answer that did not come."""

    default_hint = "Check the address and port, and that the server runs."
