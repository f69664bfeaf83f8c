"""The README's Python runs."""

import re
from pathlib import Path

import gatecast
from gatecast import zoo

README = Path(__file__).parents[2] / "README.md"


def test_the_python_of_the_readme_gives_scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gatecast.export(zoo.load("fashion"), "fashion.onnx")
    zoo.write_samples("fashion", Path("samples"))
    (block,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(compile(block, str(README), "exec"), names)
    (scores,) = names["scores"].values()
    assert zoo.FASHION_LABELS[scores[0].argmax()] == "Ankle boot"
