import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

GUIDE = """# A guide
Text with `$ false` in it.

```console
$ echo one > file
$ cat file
what it prints
```

```sh
$ false
```

```console
$ pwd
```
"""


def walk(guide: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "examples/walk.py", guide]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_commands_of_console_blocks_run_in_order_in_one_folder_that_is_gone_after(tmp_path):
    (tmp_path / "guide.md").write_text(GUIDE)
    ended = walk(tmp_path / "guide.md")
    shown = [line for line in ended.stdout.splitlines() if line and "$" not in line]
    assert ended.returncode == 0
    assert shown[0] == "one"
    assert not Path(shown[1]).exists()
    assert shown[2].startswith("Done in ")


def test_the_first_command_that_fails_ends_the_walk(tmp_path):
    (tmp_path / "guide.md").write_text(GUIDE.replace("cat file", "cat nothing"))
    ended = walk(tmp_path / "guide.md")
    assert ended.returncode == 1
    assert "The walk ends here: the last command failed with status 1" in ended.stderr
    assert "$ pwd" not in ended.stdout
