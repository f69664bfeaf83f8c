"""Where weights and pictures come from: addresses, digests, licences. Facts only.

Digests are what the source publishes: all of a SHA-256, or the start of one where the file's name holds it.
No address could be tried when this table was written, so each is marked as untested.
"""

from dataclasses import dataclass

TORCHVISION_LICENCE = (
    "BSD-3-Clause, (c) Soumith Chintala 2016 and the torchvision authors; trained on ImageNet"
)
TEST_ONLY_LICENCE = "Uber Non-Commercial License (UATC LLC): tests only, non-commercial"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file that can be had.

    Parameters
    ----------
    file : str
        Its name in the cache and in the folder `GATECAST_WEIGHTS`.
    address : str
        Empty if the file is never downloaded.
    sha256 : str
        The published digest or its first digits; empty if none is published.
    bytes : int, optional
        The published size.
    licence, publisher : str
    preprocessing : str
        Name of the one that the weights were trained with.
    reached : bool
        Whether the address has been tried with success.
    test_data : str
        Its path under `GATECAST_TEST_DATA`, if not `file`.
    test_only : bool
        For tests and never for use; found only under `GATECAST_TEST_DATA`.
    """

    file: str
    licence: str
    publisher: str
    address: str = ""
    sha256: str = ""
    bytes: int | None = None
    preprocessing: str = "imagenet-torchvision"
    reached: bool = False
    test_data: str = ""
    test_only: bool = False


RESNET50_SOURCES = (
    Source(
        file="resnet50-0676ba61.pth",
        address="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        sha256="0676ba61",
        licence=TORCHVISION_LICENCE,
        publisher="torchvision, ResNet50_Weights.IMAGENET1K_V1: published top-1 76.130 %, top-5 92.862 %",
    ),
    Source(
        file="resnet50.tv_in1k.safetensors",
        address="https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors",
        sha256="5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        licence=TORCHVISION_LICENCE,
        publisher="timm, resnet50.tv_in1k: torchvision's IMAGENET1K_V1 as safetensors",
    ),
    Source(
        file="resnet50-11ad3fa6.pth",
        address="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        sha256="11ad3fa6",
        licence=TORCHVISION_LICENCE,
        publisher="torchvision, ResNet50_Weights.IMAGENET1K_V2: published top-1 80.858 %",
        preprocessing="imagenet-torchvision-v2",
    ),
    Source(
        file="resnet50_pqf_decoded.npz",
        test_data="weights/resnet50_pqf_decoded.npz",
        sha256="f4940ada67b5fce1441d1d82856f74fe6ee28761e7e5dd0a164a550bf2de83d6",
        bytes=6927475,
        licence=TEST_ONLY_LICENCE,
        publisher="uber-research/permute-quantize-finetune, decoded: published top-1 72.2 %",
        test_only=True,
    ),
)

RESNET50_V1_SOURCES = (
    Source(
        file="resnet50-v1-12.onnx",
        address=(
            "https://github.com/onnx/models/raw/main/validated/vision/classification/resnet/model/"
            "resnet50-v1-12.onnx"
        ),
        sha256="ab65bdc02c5b3123eb3cdf6dac01742438517d8635d4f233913b2be1c70db3b6",
        bytes=102576419,
        licence="Apache-2.0, ONNX Model Zoo (from GluonCV); trained on ImageNet",
        publisher="ONNX Model Zoo, ResNet50 v1, opset 12: published top-1 74.93 %",
    ),
    Source(
        file="resnet50-v1-12.onnx",
        address=(
            "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/validated/vision/classification/"
            "resnet/model/resnet50-v1-12.onnx"
        ),
        sha256="ab65bdc02c5b3123eb3cdf6dac01742438517d8635d4f233913b2be1c70db3b6",
        bytes=102576419,
        licence="Apache-2.0, ONNX Model Zoo (from GluonCV); trained on ImageNet",
        publisher="ONNX Model Zoo's copy at Hugging Face",
    ),
)

SNOW_LEOPARD = Source(
    file="snowleopardgaze.jpg",
    address=(
        "https://raw.githubusercontent.com/Azure-Samples/aml-hardware-accelerated-models/master/"
        "deploy-to-databox-edge/sample-client/assets/snowleopardgaze.jpg"
    ),
    sha256="87b73ac27ee28e66f6530fa3cc62295e633b5020d7567b671e2b27eedb8f4b1d",
    bytes=62821,
    test_data="images/azure_samples/snowleopardgaze.jpg",
    licence="MIT, (c) Microsoft Corporation",
    publisher="Azure-Samples/aml-hardware-accelerated-models",
)
