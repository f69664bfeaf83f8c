"""Which old module has which names, and where they stand now."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from gatecast.errors import WorkspaceError

_IMAGE = {"image": ("Image", "AccelContainerImage", "AccelImageConfiguration")}
_ACCEL_MODELS = {"accel_models": ("*",)}
_EXCEPTIONS = {
    "exceptions": (
        "AzureMLException",
        "ComputeTargetException",
        "ModelNotFoundException",
        "UserErrorException",
        "WebserviceException",
        "WorkspaceException",
    )
}

MODULES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "azureml": {},
    "azureml.core": {
        "workspace": ("Workspace",),
        "model": ("Model",),
        "image": ("Image",),
        "webservice": ("Webservice",),
        "compute": ("ComputeTarget",),
    },
    "azureml.core.workspace": {"workspace": ("Workspace",)},
    "azureml.core.model": {"model": ("Model",)},
    "azureml.core.image": {"image": ("Image",)},
    "azureml.core.compute": {"compute": ("AksCompute", "ComputeTarget")},
    "azureml.core.webservice": {"webservice": ("AksWebservice", "Webservice")},
    "azureml.exceptions": _EXCEPTIONS,
    "azureml.accel": {"accel": ("*",)},
    "azureml.accel.client": {"client": ("PredictionClient",), "accel": ("client_from_service",)},
    "azureml.accel.accel_container_image": _IMAGE,
    "azureml.accel.accel_onnx_converter": {"accel": ("AccelOnnxConverter",)},
    "azureml.accel.models": _ACCEL_MODELS,
    "azureml.accel.models.utils": {"accel_models": ("preprocess_array",)},
}
"""For each old module, the modules of this package and the names that it takes from them; ``*`` takes all."""


def install(replace: bool = False) -> None:
    """Put the old names in place for this process: `import azureml.core` finds them from now on.

    Parameters
    ----------
    replace : bool
        Also where the real packages are installed.

    Raises
    ------
    WorkspaceError
        The real packages are there, and `replace` is not set.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if find_spec("azureml") is not None and not replace:
        raise WorkspaceError(
            "The real package azureml must not be installed, but is",
            hint="Pass --replace to use Gatecast's names instead for this script, or uninstall the package.",
        )
    for name in [name for name in sys.modules if name == "azureml" or name.startswith("azureml.")]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder, Loader):
    """Finds the modules of `MODULES`; what stands behind one is imported when it is."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in MODULES)
        return ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        exported: list[str] = []
        for source, names in MODULES[module.__name__].items():
            found = importlib.import_module(f"{__package__}.{source}")
            names = found.__all__ if "*" in names else names
            for name in names:
                setattr(module, name, getattr(found, name))
            exported += names
        module.__dict__["__all__"] = exported
