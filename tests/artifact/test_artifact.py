"""The artifact file. Ref: docs/spec/artifact.md."""

import hashlib
import json
import os
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from gatecast.artifact import Artifact, HostStage, ImageStage, LayerReport, ProgramStage
from gatecast.artifact.container import read_container, write_container
from gatecast.errors import FileError
from gatecast.graph import InputPort, Interface, OutputPort, Preprocessing, Signature, TensorSpec
from gatecast.isa import Instruction, Port, Program, architecture

PREPROCESSING = Preprocessing(name="grey", height=2, width=3, channels="L", mean=(0.5,), std=(0.25,))


def program() -> Program:
    external = {"row_pitch": 128, "pixel_pitch": 1}
    out = {"out_format": "float32", "out_rows": 1, "out_columns": 1, "out_blocks": 1}
    in_ = {key.replace("out", "in"): value for key, value in out.items()}
    return Program(
        architecture=architecture("tiny"),
        text=(
            Instruction("load", section=2, **external, **out, signal=("store",)),
            Instruction("store", section=3, **external, **in_, wait=("load",)),
            Instruction("end"),
        ),
        weights=bytes(range(256)) * 40,
        inputs=(Port.packed("features", (1, 1, 4), "float32"),),
        outputs=(Port.packed("scores", (1, 1, 4), "float32"),),
        layers=("copy",),
        producer="test",
    )


def artifact(**changes: object) -> Artifact:
    whole = Artifact(
        name="small",
        stages=(
            ImageStage("image", "pixels", PREPROCESSING),
            HostStage("small/0", b"onnx" * 10, ("pixels",), ("features",)),
            ProgramStage("small/1", program(), ("features",), ("scores",)),
        ),
        interface=Interface(
            inputs=(InputPort(name="image", value="pixels", layout="NHWC", image=PREPROCESSING),),
            outputs=(OutputPort(name="out:0", value="scores", aliases=("scores",)),),
            labels=("cat", "hund", "størk", "…"),
        ),
        signature=Signature(
            (TensorSpec("image", "string", (-1,)),), (TensorSpec("out:0", "float32", (-1, 4)),)
        ),
        shapes={"pixels": (2, 3, 1), "features": (4,), "scores": (4,)},
        formats="bfp8",
        target="tiny",
        layers=(LayerReport("copy", "Convolution", "device", 12, 34, 56, 7),),
        provenance={"producer": "gatecast", "source": {"sha256": "00ff"}},
    )
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def data() -> bytes:
    return artifact().to_bytes()


def test_what_is_saved_is_loaded_again(tmp_path):
    path = tmp_path / "small.gcast"
    artifact().save(path)
    assert Artifact.load(path) == artifact()
    assert [p.name for p in tmp_path.iterdir()] == ["small.gcast"]


def test_the_same_artifact_gives_the_same_bytes(tmp_path, data):
    artifact().save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data == artifact().to_bytes()


def test_weights_stay_in_the_mapped_file(tmp_path):
    path = tmp_path / "small.gcast"
    artifact().save(path)
    program = Artifact.load(path).stages[2].program
    weights = np.frombuffer(program.weights, np.uint8)
    assert not weights.flags.owndata and weights.ctypes.data % 64 == 0


def test_stages_begin_at_a_page(data):
    assert data.index(b"GCPROGRM") % 4096 == 0
    assert data.index(b"onnxonnx") % 4096 == 0


def test_saving_replaces_an_older_file(tmp_path):
    path = tmp_path / "small.gcast"
    path.write_bytes(b"old")
    artifact(name="new").save(path)
    assert Artifact.load(path).name == "new"


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "small.gcast"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"small\.gcast cannot be written: No space left on device"):
        artifact().save(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["small.gcast"]


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileError, match=r"Artifact .*/no/x cannot be written: No such file"):
        artifact().save(tmp_path / "no" / "x")


def test_a_flip_of_any_byte_is_refused(data):
    named = set()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(FileError) as error:
            Artifact.from_bytes(bytes(damaged), "x.gcast")
        assert "x.gcast" in str(error.value)
        named.add(str(error.value).partition(" x.gcast")[0].partition(" of")[0])
    assert named == {
        "Header", "Section table", "Section manifest", "Section stage 1", "Section stage 2",
        "Padding before section manifest", "Padding before section stage 1", "Padding before section stage 2",
    }  # fmt: skip


def test_a_file_cut_anywhere_is_refused(data):
    for length in (0, 1, 63, 64, 100, 4096, 5000, len(data) // 2, len(data) - 1):
        with pytest.raises(FileError, match="truncated"):
            Artifact.from_bytes(data[:length])


def test_bytes_after_the_end_are_refused(data):
    with pytest.raises(FileError, match=r"has bytes after its end: it must have \d+ bytes"):
        Artifact.from_bytes(data + b"\0")


def test_an_empty_file_and_a_missing_one_are_told_apart(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(FileError, match="empty is truncated: it must have 64 bytes, not 0"):
        Artifact.load(tmp_path / "empty")
    with pytest.raises(FileError, match="none cannot be read: No such file"):
        Artifact.load(tmp_path / "none")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        Artifact.load(tmp_path)


def test_another_kind_of_file_is_told():
    with pytest.raises(FileError, match="must begin with GCARTFCT: this is another kind of file") as caught:
        Artifact.from_bytes(b"\x08\x0a" * 64)
    assert caught.value.hint == "`gatecast compile` makes artifacts from networks."


def resealed(data: bytes, offset: int, code: str, value: int) -> bytes:
    """Change a field of the header and make its checksum right again."""
    changed = bytearray(data)
    struct.pack_into(code, changed, offset, value)
    struct.pack_into("<I", changed, 60, zlib.crc32(changed[:60]))
    return bytes(changed)


@pytest.mark.parametrize(("offset", "version"), [(8, "2.0"), (10, "1.2")])
def test_a_newer_version_is_told_from_a_damaged_file(data, offset, version):
    with pytest.raises(FileError, match=rf"must be of version 1\.0 to 1\.0, not {version}") as error:
        Artifact.from_bytes(resealed(data, offset, "<H", 2))
    assert "newer Gatecast" in error.value.hint


@pytest.mark.parametrize("count", [0, 1025, 2**32 - 1])
def test_the_number_of_sections_has_limits(data, count):
    with pytest.raises(FileError, match=f"must have 1 to 1024 sections, not {count}"):
        Artifact.from_bytes(resealed(data, 12, "<I", count))


def test_overlapping_sections_are_refused(data):
    changed = bytearray(data)
    struct.pack_into("<Q", changed, 64 + 64 + 16, 4096)  # the second section onto the first
    changed[24:56] = hashlib.sha256(changed[64 : 64 + 3 * 64]).digest()
    with pytest.raises(FileError, match="Section stage 1 of the artifact must lie after manifest"):
        Artifact.from_bytes(resealed(bytes(changed), 4, "<I", struct.unpack_from("<I", data, 4)[0]))


def rewritten(change) -> bytes:
    """An artifact whose manifest is changed and whose digests are right."""
    sections = dict(read_container(memoryview(artifact().to_bytes()), ""))
    manifest = json.loads(bytes(sections["manifest"]))
    change(manifest, sections)
    sections["manifest"] = json.dumps(manifest).encode() if manifest else b"no"
    return b"".join(write_container(sections))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, s: m.clear(), "Section manifest of the artifact must be JSON"),
        (lambda m, s: m.pop("shapes"), "Section manifest of the artifact must hold formats, interface"),
        (lambda m, s: m.update(name=3), "must have the form of version 1: .*3 is no str"),
        (lambda m, s: m["stages"][1].update(kind="pickle"), "kind of stage 1 is 'pickle'"),
        (lambda m, s: m["stages"][0].update(preprocessing={"eval": 1}), "has no field"),
        (lambda m, s: m["layers"][0].update(macs=-1), "-1 is no count"),
        (lambda m, s: m["layers"][0].update(more=1), "layer 'copy' has other fields"),
        (lambda m, s: s.pop("stage 1"), "KeyError.*stage 1"),
        (lambda m, s: s.update(extra=b"x"), "must have no section that is not a stage's: extra"),
        (lambda m, s: s.update({"stage 2": b"x" * 99}), "Section stage 2 of the artifact: Program must"),
        (lambda m, s: m["stages"].reverse(), "manifest|stage"),
        (lambda m, s: m["shapes"].pop("scores"), "Values of small must have a shape: scores"),
        (lambda m, s: m["interface"].update(outputs=[{"name": "o", "value": "q"}]), "made by a stage: q"),
        (lambda m, s: m["stages"][1].update(inputs=["q"]), "must read earlier values, not q"),
        (lambda m, s: m["stages"][2].update(outputs=["s"]), "must be its outputs, not scores"),
    ],
)
def test_a_wrong_manifest_with_right_digests_is_refused(change, message):
    with pytest.raises(FileError, match=message):
        Artifact.from_bytes(rewritten(change))
