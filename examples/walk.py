"""Walk through a guide: run the commands of its console blocks in order, and show what they print.

    python examples/walk.py docs/guides/workflow.md

The commands run in a new folder, which is removed at the end; the first one that fails ends the walk.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def commands(text: str) -> list[str]:
    """Commands of a page: the lines of its console blocks that begin with ``$``."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def walk(guide: Path, folder: Path) -> None:
    """Run the commands of a guide in `folder`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "GATECAST_WORKSPACE"}
    for command in commands(guide.read_text(encoding="utf-8")):
        print(f"\n\033[1m$ {command}\033[0m", flush=True)
        subprocess.run(["bash", "-c", command], cwd=folder, env=environment | {"PATH": path}, check=True)


def main() -> None:
    """Walk through the guide of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("guide", type=Path, help="page with console blocks")
    guide = parser.parse_args().guide
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gatecast-walk-") as folder:
        try:
            walk(guide, Path(folder))
        except subprocess.CalledProcessError as error:
            sys.exit(f"\nThe walk ends here: the last command failed with status {error.returncode}")
    print(f"\nDone in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
