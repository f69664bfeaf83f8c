"""ResNet-50 v1.5 at batch 1: the software device against other engines on the same processor.

    python benchmarks/software_device.py --against onnxruntime|onnxruntime-int8|openvino|openvino-int8
        [--threads 1] [--rounds 30] [--calls 3] [--cpu avx2] [--max-isa AVX512_CORE_VNNI] [--json]

Each engine runs in a process of its own. In each round one after the other makes some calls, so that both
see the same disturbances; the ratio is the median of the rounds' ratios of medians, its spread the quartiles.
Before an engine's calls both rest until no thread of the other spins any more: it would take a processor.
What is timed is a call with a float32 tensor [1, 3, 224, 224]: all of `Session.run`, against
the other's `run`. `device` is the Program alone. Weights are seeded, which changes no engine's time.

int8 is ONNX Runtime's static quantisation (unsigned activations, signed weights, by channel); OpenVINO reads
the same file. `--max-isa` is oneDNN's ONEDNN_MAX_CPU_ISA, for OpenVINO; it also keeps OpenVINO from AMX.
The kernels that OpenVINO names for its convolutions tell whether it took effect. `--cpu` forces an
instruction set of ours (GATECAST_CPU).
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from gatecast.devices.software import instruction_sets
from gatecast.runtime.native import peak_products

SIDE = 224
REST_S = 0.05
AGAINST = ("onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8")


def prepare(folder: Path, int8: bool) -> None:
    """Write the artifact, and the network as float32 ONNX; if asked for, quantised to int8 too."""
    import gatecast
    from gatecast.zoo import network

    known = network("resnet50")
    graph = known.build(known.random_arrays())
    ports = tuple(replace(port, layout="NCHW", image=None) for port in graph.interface.inputs)
    graph = replace(graph, interface=replace(graph.interface, inputs=ports))
    gatecast.export(graph, folder / "float.onnx")
    gatecast.compile(gatecast.quantize(graph, "bfp8"), target="software").save(folder / "net.gcast")
    if int8:
        quantize_int8(folder / "float.onnx", folder / "int8.onnx")


def quantize_int8(source: Path, target: Path) -> None:
    """Quantise by ONNX Runtime, on tensors of noise."""
    import onnxruntime
    from onnxruntime import quantization as q

    name = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).get_inputs()[0].name

    class Noise(q.CalibrationDataReader):
        def __init__(self):
            self.left = [{name: tensor(seed)} for seed in range(4)]

        def get_next(self):
            return self.left.pop() if self.left else None

    prepared = target.with_suffix(".prepared.onnx")
    q.shape_inference.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    q.quantize_static(
        prepared, target, Noise(), quant_format=q.QuantFormat.QDQ, per_channel=True,
        activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
    )  # fmt: skip


def tensor(seed: int = 0) -> np.ndarray:
    """Return one image of noise."""
    return np.random.default_rng(seed).standard_normal((1, 3, SIDE, SIDE), np.float32)


def gatecast_call(folder: Path, threads: int):
    """Return a call of ours that returns the seconds on the device, and what ran."""
    import gatecast

    session = gatecast.open(folder / "net.gcast", device="software", threads=threads)
    inputs = {session.interface.inputs[0].name: tensor()}

    def call():
        _, times = session.run_timed(inputs)
        return times[0].device_us * 1e-6

    reports = session.run_timed(inputs)[1][0].reports
    return call, next(report["instruction_set"] for report in reports.values())


def onnxruntime_call(file: Path, threads: int):
    """Return a call of ONNX Runtime, and its version."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: tensor()}
    return lambda: session.run(None, inputs), onnxruntime.__version__


def openvino_call(file: Path, threads: int):
    """Return a call of OpenVINO, and its version with the kernels of its convolutions."""
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    model.reshape([1, 3, SIDE, SIDE])
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, **hints})
    request, image = compiled.create_infer_request(), tensor()
    layers = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    kernels = {
        of["primitiveType"].astype(str) for of in layers if of["layerType"].astype(str) == "Convolution"
    }
    return lambda: request.infer([image]), f"{openvino.__version__} ({', '.join(sorted(kernels))})"


def work(engine: str, folder: Path, threads: int) -> None:
    """Say what runs; then, for each number that comes in, make so many calls and answer with the seconds."""
    file = folder / ("int8.onnx" if engine.endswith("int8") else "float.onnx")
    if engine == "gatecast":
        call, what = gatecast_call(folder, threads)
    else:
        call, what = (onnxruntime_call if engine.startswith("onnx") else openvino_call)(file, threads)
    for _ in range(3):
        call()
    print(json.dumps(what), flush=True)
    for line in sys.stdin:
        seconds, device = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            found = call()
            seconds.append(time.perf_counter() - start)
            device.append(found if isinstance(found, float) else 0.0)
        print(json.dumps([seconds, device]), flush=True)


class Engine:
    """An engine in a process of its own."""

    def __init__(self, name: str, folder: Path, threads: int, settings: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", name, str(folder), "--threads", str(threads)],
            stdin=pipe,
            stdout=pipe,
            text=True,
            env=os.environ | settings,
        )
        self.what = json.loads(self._process.stdout.readline())

    def calls(self, count: int) -> tuple[list[float], list[float]]:
        """Rest, then make calls: their seconds, and those of the device."""
        time.sleep(REST_S)
        print(count, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def compare(ours: Engine, theirs: Engine, rounds: int, calls: int) -> dict:
    """Interleave rounds of calls; milliseconds and ratios of medians."""
    rows = []
    for _ in range(rounds):
        (whole, device), (other, _) = ours.calls(calls), theirs.calls(calls)
        rows.append([np.median(whole), np.median(device), np.median(other)])
    whole, device, other = np.array(rows).T
    low, middle, high = np.percentile(whole / other, [25, 50, 75])
    return {
        "ratio": round(float(middle), 4),
        "spread": [round(float(low), 4), round(float(high), 4)],
        "device_ratio": round(float(np.median(device / other)), 4),
        "median_ms": {"gatecast": ms(whole), "device": ms(device), "other": ms(other)},
        "best_ms": {"gatecast": ms(whole, 0), "device": ms(device, 0), "other": ms(other, 0)},
        "device_gmacs_per_s": round(4.089 / float(device.min()), 1),
    }


def ms(seconds: np.ndarray, percentile: int = 50) -> float:
    """A percentile in milliseconds."""
    return round(float(np.percentile(seconds, percentile)) * 1e3, 3)


def missing(against: str) -> str | None:
    """Return what is not installed."""
    package = against.removesuffix("-int8")
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return package
    return None


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--against", choices=AGAINST, default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--cpu")
    parser.add_argument("--max-isa")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(given.work[0], Path(given.work[1]), given.threads)
    if package := missing(given.against):
        sys.exit(f"error: {package} must be installed for --against {given.against}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, given.against.endswith("int8"))
        settings = {"ONEDNN_MAX_CPU_ISA": given.max_isa} if given.max_isa else {}
        ours = Engine("gatecast", folder, given.threads, {"GATECAST_CPU": given.cpu} if given.cpu else {})
        theirs = Engine(given.against, folder, given.threads, settings)
        found = compare(ours, theirs, given.rounds, given.calls)
        found |= {"against": f"{given.against} {theirs.what}", "threads": given.threads, "ran": ours.what}
        if "avx512vnni" in instruction_sets():
            most = peak_products("avx512vnni", given.threads)
            share = round(found["device_gmacs_per_s"] / most, 3)
            found |= {"vnni_peak_gmacs_per_s": round(most, 1), "share_of_peak": share}
        ours.close()
        theirs.close()
    if given.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{key:24} {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
