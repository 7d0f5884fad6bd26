"""Run the benchmarks, floor and product in turn, and print a table with the spread.

The figures are also written to a JSON file. Instructions are counted where valgrind is installed.

python -m bench [--runs N] [--only w1,w3] [--output FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.instructions import is_possible, report_instructions
from bench.report import Report, run

W1, W2, W3, W4, W6 = "10000", "100", "10000", "100000", "200"
W8 = "100000"
W10 = "10000"
NARROW, WIDE = "100", "10000"


def against_floor(report: Report, name: str, work: str, n: str, runs: int, goal: str) -> None:
    """Floor and product in turn, compared pair by pair."""
    pairs = [(run("bench.floor", work, n), run("bench.workloads", work, n)) for _ in range(runs)]
    report.add(name, "floor, workflows/s", [floor["per_s"] for floor, _ in pairs])
    report.add(name, "workflows/s", [ours["per_s"] for _, ours in pairs])
    report.add(name, "CPU µs a workflow", [ours["cpu_us"] for _, ours in pairs])
    report.add(name, "times the floor", [ours["per_s"] / floor["per_s"] for floor, ours in pairs], goal)
    report.add(name, "latency p50, ms", [ours["p50_ms"] for _, ours in pairs])
    report.add(name, "latency p99, ms", [ours["p99_ms"] for _, ours in pairs])


def long_workflow(report: Report, runs: int) -> None:
    results = [run("bench.workloads", "w3", W3) for _ in range(runs)]
    name = "W3 one workflow, 10,000 steps"
    report.add(name, "first 500, µs a step", [each["first_us"] for each in results])
    report.add(name, "last 500, µs a step", [each["last_us"] for each in results])
    report.add(name, "last / first", [each["ratio"] for each in results], "≤ 1.15")
    report.add(name, "first 500, bytes a step", [each["first_bytes"] for each in results])
    report.add(name, "last 500, bytes a step", [each["last_bytes"] for each in results], "no growth")


def wide_workflow(report: Report, name: str, work: str, runs: int) -> None:
    pairs = [(run("bench.workloads", work, NARROW), run("bench.workloads", work, WIDE)) for _ in range(runs)]
    report.add(name, "100 at once, CPU µs each", [narrow["cpu_us"] for narrow, _ in pairs])
    report.add(name, "10,000 at once, CPU µs each", [wide["cpu_us"] for _, wide in pairs])
    report.add(name, "10,000 / 100", [wide["cpu_us"] / narrow["cpu_us"] for narrow, wide in pairs], "≤ 1.15")
    report.add(name, "10,000 at once, bytes of the largest head", [wide["head_bytes"] for _, wide in pairs], "≤ 24,576")


def fan_out(report: Report, runs: int) -> None:
    name = "W8 a signal to 100,000 instances by tag"
    alone = [run("bench.fan_out", "engine", W8) for _ in range(runs)]
    report.add(name, "tag engine, CPU µs an instance", [each["cpu_us"] for each in alone])
    report.add(name, "tag engine, MiB more", [each["growth_bytes"] / 1024**2 for each in alone], "≤ 8")
    report.add(name, "p99 of others in between, ms", [each["wait_p99_ms"] for each in alone])
    whole = [run("bench.fan_out", "whole", W8) for _ in range(min(2, runs))]
    report.add(name, "until all have ended, CPU µs an instance", [each["cpu_us"] for each in whole])


def batches(report: Report, runs: int) -> None:
    name = "W10 10,000 parallel tasks in batches"
    for kind, what, goal in (("rows", "a row in SQLite each", "≥ 3"), ("free", "nothing to do", "")):
        pairs = [[run("bench.batches", kind, how, W10)["per_s"] for how in ("single", "batch")] for _ in range(runs)]
        report.add(name, f"{what}, one by one, tasks/s", [single for single, _ in pairs])
        report.add(name, f"{what}, in batches, tasks/s", [together for _, together in pairs])
        report.add(name, f"{what}, in batches / one by one", [together / single for single, together in pairs], goal)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each workload (default 5)")
    parser.add_argument("--only", default="w1,w2,w3,w4,w5,w6,w7,w8,w9,w10,instructions", help="e.g. w1,w3")
    parser.add_argument("--output", type=Path, default=Path("bench-results/latest.json"))
    options = parser.parse_args()
    wanted, report = set(options.only.split(",")), Report("Infinitic on the in-memory broker")
    if "w1" in wanted:
        against_floor(report, "W1 three tasks, 200 in flight", "w1", W1, options.runs, "≥ 0.50")
    if "w2" in wanted:
        against_floor(report, "W2 100 × 100 parallel tasks", "w2", W2, options.runs, "≥ 2.0")
    if "w3" in wanted:
        long_workflow(report, options.runs)
    if "w4" in wanted:
        asleep = [run("bench.workloads", "w4", W4) for _ in range(min(3, options.runs))]
        report.add("W4 100,000 asleep for 30 days", "bytes each", [each["bytes_each"] for each in asleep], "≤ 6,144")
    if "w5" in wanted:
        tests = [run("bench.pytest_cost") for _ in range(min(3, options.runs))]
        report.add("W5 pytest", "bare, s", [each["bare_s"] for each in tests])
        report.add("W5 pytest", "cold run above bare, s", [each["cold_s"] for each in tests], "≤ 0.75")
        report.add("W5 pytest", "each further test, ms", [each["each_ms"] for each in tests], "≤ 5")
    if "w6" in wanted:
        for faults, what in (("none", "no faults"), ("all", "all faults")):
            seeds = [run("bench.seeds", faults, W6) for _ in range(options.runs)]
            report.add(
                "W6 seeds of a 200-message scenario",
                f"{what}, seeds a CPU second",
                [each["per_cpu_s"] for each in seeds],
                "≥ 60",
            )
    if "w7" in wanted:
        wide_workflow(report, "W7 parallel tasks of one workflow, one timeout", "w7", options.runs)
    if "w8" in wanted:
        fan_out(report, options.runs)
    if "w9" in wanted:
        wide_workflow(report, "W9 children of one workflow, one timeout", "w9", options.runs)
    if "w10" in wanted:
        batches(report, options.runs)
    if "instructions" in wanted:
        if is_possible():
            report_instructions(report)
        else:
            print("Instructions are not counted: valgrind is not installed", file=sys.stderr)
    report.publish(options.output)


if __name__ == "__main__":
    main()
