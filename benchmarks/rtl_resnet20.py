"""ResNet-20 with its real weights, whole, on the NPU's Verilog: bytes and classes against other devices.

    python benchmarks/rtl_resnet20.py [--pictures 20] [--target ecp5_85f] [--format bfp8]

Every picture's scores must be the reference device's, bit for bit, and the best class the float network's for
all but one in twenty. Needs Verilator and, in the folder GATECAST_TEST_DATA, the weights and CIFAR-10
pictures. Ends with status 1 if it is not so.
"""

import argparse
import sys
import time

import numpy as np
from resnet20 import pictures, resnet20
from rich.console import Console
from rich.progress import track

from gatecast.compiler import compile
from gatecast.graph import evaluate
from gatecast.quantization import quantize
from gatecast.runtime import open_session


def main() -> None:
    """Run all pictures and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--target", default="ecp5_85f")
    parser.add_argument("--format", default="bfp8")
    options = parser.parse_args()
    graph = resnet20()
    images, labels = pictures(options.pictures)
    floats = np.stack([evaluate(graph, {"images": image})["linear"] for image in images]).argmax(axis=1)
    artifact = compile(quantize(graph, options.format), options.target)
    equal, classes, cycles, start = 0, [], 0, time.monotonic()
    with (
        open_session(artifact, device="reference") as reference,
        open_session(artifact, device="rtl") as rtl,
    ):
        for image in track(images, "Simulating", console=Console(stderr=True)):
            expected = reference.run({"images": image[None]})["linear"]
            found, (taken,) = rtl.run_timed({"images": image[None]})
            equal += found["linear"].tobytes() == expected.tobytes()
            classes.append(int(found["linear"].argmax()))
            cycles += sum(report["cycles"] for report in taken.reports.values())
    count, agreeing = len(images), int((np.array(classes) == floats).sum())
    print(
        f"ResNet-20, {options.format}, {options.target}: {count} pictures in {time.monotonic() - start:.0f} s"
    )
    print(f"cycles a picture        {cycles // count:,}")
    print(f"bytes as reference's    {equal} of {count}")
    print(f"class as float's        {agreeing} of {count}")
    print(f"class as labelled       {int((np.array(classes) == labels).sum())} of {count}")
    if equal < count or agreeing < count - count // 20:
        sys.exit(1)


if __name__ == "__main__":
    main()
