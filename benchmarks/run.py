"""Speed of the parts that this project exists for, each as a ratio against a reference in the same run.

    python benchmarks/run.py [TOPIC ...] [--repeats 5]

A topic is a module ``bench_TOPIC.py`` beside this file with a function ``lines(repeats) -> list[Line]``. The topics
named (all, where none is) are measured anew, printed, and put into results.json and results.md, where the others stay.
Times are medians of several repeats; on a shared machine the ratios mean more than the times.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lines import Line, machine

HERE = Path(__file__).parent
Results = dict[str, dict[str, Any]]  # topic -> machine, repeats, lines


def topics() -> list[str]:
    """Names of all topics, in order."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def merged(before: Mapping[str, Any], topic: str, lines: Sequence[Line], *, repeats: int, where: str) -> Results:
    """Results with those of one topic replaced."""
    rows = [asdict(line) | {"ratio": round(line.ratio, 3)} for line in lines]
    both = {**before, topic: {"machine": where, "repeats": repeats, "lines": rows}}
    return dict(sorted(both.items()))


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Results as a page: a table for each topic."""
    parts = ["# Benchmarks", "Ratio: how many times better ours is than the reference, in the same run."]
    for topic, found in results.items():
        rows = ["| what | ours | reference | theirs | ratio |", "| --- | --- | --- | --- | --- |"]
        rows += [
            f"| {row['what']} | {figure(row['ours'])} {row['unit']} | {row['reference']} "
            f"| {figure(row['theirs'])} {row['unit']} | {row['ratio']:.2f} |"
            for row in found["lines"]
        ]
        parts += [f"## {topic}", "\n".join(rows), f"{found['machine']}; medians of {found['repeats']}."]
    return "\n\n".join(parts) + "\n"


def figure(value: float) -> str:
    """Three digits or more: 0.123, 12.3, 1,234."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure topics, print their tables, write results.json and results.md."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(topics())}; all by default")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.topics) - set(topics()))
    if unknown:
        parser.error(f"no such topic: {', '.join(unknown)}; choose of {', '.join(topics())}")
    stored = HERE / "results.json"
    for topic in asked.topics or topics():
        lines = importlib.import_module(f"bench_{topic}").lines(asked.repeats)
        before = json.loads(stored.read_text()) if stored.exists() else {}
        results = merged(before, topic, lines, repeats=asked.repeats, where=machine())
        print(markdown({topic: results[topic]}), flush=True)
        stored.write_text(json.dumps(results, indent=1) + "\n")
        (HERE / "results.md").write_text(markdown(results))


if __name__ == "__main__":
    sys.exit(main())
