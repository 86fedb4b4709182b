# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process costs that does a piece of work, and where the work's result may go at next to no cost."""

import os
import subprocess
import sys

from tailrace import TOP_BUILD

MEASURE = os.path.join(TOP_BUILD, "t/bench/measure")
RECEIVER = os.path.join(TOP_BUILD, "t/bench/receiver")


class Cost:
    def __init__(self, size, cpu_s, wall_s, peak_kib):
        self.speed = size / 1e6 / cpu_s
        self.wall_s = wall_s
        self.peak_mib = peak_kib / 1024


def median(costs):
    return sorted(costs, key=lambda c: c.speed)[len(costs) // 2]


def measured(size, *command):
    r = subprocess.run([MEASURE, *command], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{command[0]} ended with {r.returncode}:\n{r.stderr}")
    cpu_s, wall_s, peak_kib = r.stdout.split()
    return Cost(size, float(cpu_s), float(wall_s), int(peak_kib))


class Receiver:
    """t/bench/receiver; its bytes are known when it has ended."""

    def __init__(self, *options):
        self.options, self.bytes = options, 0

    def __enter__(self):
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", RECEIVER, *self.options],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_):
        self.process.terminate()
        out, _ = self.process.communicate()
        self.bytes = int(out.split()[1])
