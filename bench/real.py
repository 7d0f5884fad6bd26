"""Run the benchmarks on the servers of `make services`, floor and product in turn.

Prints a table with the spread.

With --scale: 1, 2 and 4 workers with separate clients, and 100,000 workflows that wake together.

python -m bench.real [--runs N] [--only postgres,sqlite] [--scale] [--output FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import servers
from bench.report import Report, run

W1, W2, W3, ALONE = "3000", "20", "10000", "200"
WORKERS = ("1", "2", "4")
SLEEPERS = "100000"
GOALS = {"postgres": "≥ 0.50", "mysql": "≥ 0.40", "redis": "≥ 0.50", "sqlite": "≥ 0.50"}


def measure(report: Report, database: str, runs: int) -> None:
    """Everything on one database, each W1 beside a floor of its own."""
    pairs = [(run("bench.real_floor", "w1", W1), run("bench.real_workloads", "w1", W1, database)) for _ in range(runs)]
    name = f"W1 three tasks, 200 in flight, {database}"
    report.add(name, "floor, workflows/s", [floor["per_s"] for floor, _ in pairs])
    report.add(name, "workflows/s", [ours["per_s"] for _, ours in pairs])
    report.add(name, "times the floor", [ours["per_s"] / floor["per_s"] for floor, ours in pairs], GOALS[database])
    report.add(name, "CPU µs a workflow", [ours["cpu_us"] for _, ours in pairs])
    single = [run("bench.real_workloads", "alone", ALONE, database) for _ in range(runs)]
    name = f"One workflow at a time, {database}"
    report.add(name, "p50, ms", [each["p50_ms"] for each in single], "≤ 60" if database == "postgres" else "")
    report.add(name, "p99, ms", [each["p99_ms"] for each in single])
    report.add(name, "p50 of a hop, ms", [each["p50_ms"] / 8 for each in single])
    fans = [run("bench.real_workloads", "w2", W2, database) for _ in range(runs)]
    report.add(f"W2 20 × 100 parallel tasks, {database}", "workflows/s", [each["per_s"] for each in fans])
    steps = [run("bench.real_workloads", "w3", W3, database) for _ in range(min(2, runs))]
    name = f"W3 one workflow, 10,000 steps, {database}"
    report.add(name, "a step, ms", [each["step_ms"] for each in steps])
    report.add(name, "last / first 500", [each["ratio"] for each in steps], "≤ 1.15")
    for what in ("broker", "database"):
        for which, goal in (("first", ""), ("last", "no growth")):
            figures = [each[f"{which}_{what}_bytes"] for each in steps]
            report.add(name, f"{which} 500, bytes to the {what} a step", figures, goal)


def scale_out(report: Report, database: str, runs: int) -> None:
    """Workers and clients in processes of their own: the CPU of a workflow, and whose it is."""
    # Each number of workers has its turn in each round, so that what the machine does is shared.
    rounds = [{workers: run("bench.scale", "run", workers, W1, database) for workers in WORKERS} for _ in range(runs)]
    for workers in WORKERS:
        name = f"W1 with worker processes and 2 clients, {database}: {workers} of them"
        results = [each[workers] for each in rounds]
        report.add(name, "workflows/s", [each["per_s"] for each in results])
        for group in ("workers", "clients", "broker", "database"):
            report.add(name, f"CPU of {group}, µs a workflow", [each[f"{group}_us"] for each in results])
        report.add(name, "largest worker, MiB", [each["worker_mib"] for each in results])


def wake_together(report: Report, database: str) -> None:
    """100,000 workflows sleep, and wake at one time. One run: it takes minutes."""
    result = run("bench.scale", "sleep", SLEEPERS, database)
    name = f"100,000 workflows wake together, {database}"
    report.add(name, "falling asleep, workflows/s", [result["started_per_s"]])
    report.add(name, "waking, workflows/s", [result["woken_per_s"]])
    report.add(name, "first, seconds late", [result["first_late_s"]])
    report.add(name, "last, seconds late", [result["last_late_s"]])
    report.add(name, "worker, MiB more at most", [result["mib_largest"] - result["mib_before"]])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.real", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each workload (default 3)")
    parser.add_argument("--only", default=",".join(servers.STORAGES), help="databases, e.g. postgres,sqlite")
    parser.add_argument("--scale", action="store_true", help="several processes, and many sleepers, instead")
    parser.add_argument("--output", type=Path, default=Path("bench-results/real.json"))
    options = parser.parse_args()
    report = Report("Infinitic on Apache Pulsar")
    for database in options.only.split(","):
        if not options.scale:
            measure(report, database, options.runs)
        else:
            scale_out(report, database, options.runs)
            wake_together(report, database)
    report.publish(options.output)


if __name__ == "__main__":
    main()
