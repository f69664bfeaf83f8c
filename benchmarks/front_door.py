"""What a front door adds to a call: straight to a server of a session that does nothing, and through one.

    python benchmarks/front_door.py [--calls 300] [--rounds 3] [--json]

Client, front door and server run in three processes on one machine, with one request in flight. The two ways
take turns; a row is the smallest p50 of the rounds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import serving_overhead


def routes(port: int, rest_port: int) -> str:
    """Return the routes file for one server."""
    replica = {"address": f"127.0.0.1:{port}", "rest_address": f"127.0.0.1:{rest_port}"}
    return json.dumps({"version": 1, "services": {"default": {"models": [], "replicas": [replica]}}})


def ports_of(ready: Path) -> tuple[int, int]:
    """Wait until a process answers; return its ports."""
    while not ready.exists():
        time.sleep(0.01)
    document = json.loads(ready.read_text())
    return document["port"], document["rest_port"]


def measure(folder: Path, server_ports: tuple[int, int], calls: int, rounds: int) -> list[dict[str, object]]:
    """Return for each kind of request the p50 of both ways, in microseconds."""
    (folder / "routes.json").write_text(routes(*server_ports))
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "gatecast", "route", str(folder / "routes.json")]
    command += ["--port", "0", "--rest_api_port", "0", "--ready_file", str(ready)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as door:
        try:
            ways = {"straight": server_ports, "routed": ports_of(ready)}
            found: dict[str, dict[str, float]] = {}
            for _ in range(rounds):
                for way, ports in ways.items():
                    for row in serving_overhead.rows(*ports, calls):
                        best = found.setdefault(str(row["request"]), {})
                        best[way] = min(best.get(way, float("inf")), float(str(row["p50_us"])))
        finally:
            door.terminate()
    return [{"request": name, **best} for name, best in found.items()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=300, help="calls of each kind in a round")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving_overhead.server() as ports:
        table = measure(Path(folder), ports, options.calls, options.rounds)
    if options.json:
        print(json.dumps(table, indent=1))
        return
    print(f"{'request':36}{'straight µs':>14}{'routed µs':>14}{'added µs':>14}")
    for row in table:
        straight, routed = row["straight"], row["routed"]
        print(f"{row['request']:36}{straight:14.0f}{routed:14.0f}{routed - straight:14.0f}")


if __name__ == "__main__":
    main()
