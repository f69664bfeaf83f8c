"""`gatecast rtl` writes what the library makes, and refuses what cannot be built."""

import json
import sys
from xml.etree import ElementTree

import pytest

from gatecast.cli import main
from gatecast.isa import architecture

pytest.importorskip("amaranth", reason="extra [hardware] is not installed")


def test_verilog_and_register_maps(tmp_path, capsys):
    paths = [tmp_path / name for name in ("npu.v", "npu.json", "npu.svd")]
    arguments = ["--target", "tiny", "-o", paths[0], "--registers", paths[1], "--registers", paths[2]]
    assert main(["rtl", *map(str, arguments)]) == 0
    assert "\nmodule npu(" in paths[0].read_text()
    content = json.loads(paths[1].read_text())
    assert content["digest"] == architecture("tiny").digest.hex()
    names = [register["name"] for register in content["registers"]]
    assert [e.text for e in ElementTree.parse(paths[2]).iterfind(".//register/name")] == names
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "kv260",
            "error: Architecture kv260 is more than this hardware can be built for:\n  lanes must be 4 or 8",
        ),
        ("nothing", "error: Architecture 'nothing' is not known\n"),
    ],
)
def test_other_targets_are_refused(target, message, tmp_path, capsys):
    assert main(["rtl", "--target", target, "-o", str(tmp_path / "npu.v")]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_map_of_another_kind_is_wrong_usage(tmp_path, capsys):
    arguments = ["--target", "tiny", "-o", str(tmp_path / "npu.v"), "--registers", "map.xml"]
    assert main(["rtl", *arguments]) == 2
    assert "Register map must end in .json or .svd, not 'map.xml'." in capsys.readouterr().err


def test_without_amaranth_the_hint_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "gatecast.rtl.verilog", raising=False)
    monkeypatch.setitem(sys.modules, "amaranth.back", None)
    assert main(["rtl", "--target", "tiny", "-o", str(tmp_path / "npu.v")]) == 1
    assert "hint: Install it with `pip install 'gatecast[hardware]'`." in capsys.readouterr().err
