#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Measures process_iter of task_diag.py against that of psutil, on the processes there are: `against_psutil.py [PATH]`.

Both are asked in turns; what is printed are medians, and how many times faster task_diag is.
"""

import statistics
import sys
import time

import psutil
import task_diag

ATTRS = ['pid', 'name', 'cmdline', 'memory_info', 'cpu_times']
ROUNDS = 9


def milliseconds(ask):
    began = time.perf_counter()
    count = sum(1 for _ in ask(ATTRS))
    return 1e3 * (time.perf_counter() - began), count


def main():
    service = task_diag.TaskDiag(*sys.argv[1:2])
    ways = {'psutil': psutil.process_iter, 'task_diag': service.process_iter}
    for ask in ways.values():
        milliseconds(ask)
    times = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, ask in ways.items():
            elapsed, count = milliseconds(ask)
            times[name].append(elapsed)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f'{name}: median {median:.1f} ms of {ROUNDS} (from {min(times[name]):.1f} to {max(times[name]):.1f})')
    print(f'{count} processes: {medians["psutil"] / medians["task_diag"]:.1f} times faster')


if __name__ == '__main__':
    main()
