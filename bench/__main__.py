"""`python -m bench [NAME…]`: measure, say each figure as it is known, and keep a table of all."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator

from bench import (
    clips,
    cold,
    dialect,
    diarizer,
    health,
    live,
    live_density,
    live_idle,
    long,
    memory,
    observe,
    parts,
    size,
    speakers,
    speed,
    throughput,
)
from bench.figure import Figure, table
from bench.server import ROOT

Benchmark = Callable[[bool], Iterator[Figure]]
BENCHMARKS: dict[str, Benchmark] = {
    "overhead": speed.run,
    "method": speed.run,
    "long": long.run,
    "parts": parts.run,
    "speakers": speakers.run,
    "clips": clips.run,
    "diarizer": diarizer.run,
    "cold": cold.run,
    "memory": memory.run,
    "health": health.run,
    "observe": observe.run,
    "throughput": throughput.run,
    "dialect": dialect.run,
    "live": live.run,
    "live_density": live_density.run,
    "live_idle": live_idle.run,
    "sdk": size.run,
}
RESULTS = ROOT / "bench" / "results" / "latest.md"


def main() -> int:
    """Run the benchmarks named on the command line, or all; 1 for a miss when `--strict`."""
    args = _parser().parse_args()
    chosen = dict.fromkeys(BENCHMARKS[name] for name in args.names or BENCHMARKS)
    figures, broken = [], list[str]()
    for benchmark in chosen:
        try:
            for figure in benchmark(args.quick):
                print(figure.line, flush=True)
                figures.append(figure)
        except Exception:
            traceback.print_exc()
            broken.append(benchmark.__module__.removeprefix("bench."))
    shown = table(figures, args.quick)
    if broken:
        shown += f"\nDid not finish: {', '.join(broken)}\n"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(shown)
    print(f"\n{shown}")
    return int(args.strict and (bool(broken) or any(figure.missed for figure in figures)))


def _known(name: str) -> str:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(BENCHMARKS)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what the project claims.")
    parser.add_argument("names", nargs="*", type=_known, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
