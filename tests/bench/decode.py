#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""decode.py - how near decoding comes to the speed of reading: an opt-in measurement, not a test.

    decode.py BUILD [--shape llama-3.2-1b] [--type Q4_K_M] [--rounds 5] [--threads 2] [--folder /tmp]

Makes the model (once), then in each round reads memory with bench-kernels, loads the model and decodes with generate. One token reads every matrix once
(the tied embedding as the output matrix); the ratio of a round is tokens per second x those bytes / the read speed of the same round."""
import argparse
import os
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--shape", default="llama-3.2-1b")
    p.add_argument("--type", default="Q4_K_M")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--folder", default="/tmp")
    a = p.parse_args()
    model = os.path.join(a.folder, f"{a.shape}-{a.type}.gguf")
    if not os.path.exists(model):
        run(sys.executable, os.path.join(HERE, "make_model.py"), model, "--shape", a.shape, "--type", a.type)
    with open(model, "rb") as f:            # into the page cache
        while f.read(1 << 24):
            pass
    n_bytes = os.path.getsize(model)
    rows = []
    for i in range(a.rounds):
        bench = run(os.path.join(a.build, "tests/bench-kernels"), "--threads", str(a.threads), "--mib", "1024", "--rounds", "2", "q8_0").stdout
        read = max(float(x) for x in re.findall(r"read +([0-9.]+)", bench))
        out = run(os.path.join(a.build, "examples/generate"), "-m", model, "-p", "a", "-n", "48", "-t", str(a.threads)).stderr
        rate = float(re.search(r"decode: .* ([0-9.]+) per second", out).group(1))
        load = float(re.search(r"load: ([0-9.]+) s", out).group(1))
        rows.append((rate * n_bytes * 1e-9 / read, rate, read, load))
        print(f"round {i + 1}: {rate:.1f} tokens/s = {rate * n_bytes * 1e-9:.1f} GB/s, read {read:.1f} GB/s, ratio {rows[-1][0]:.2f}, load {load:.2f} s", flush=True)
    m = [statistics.median(x) for x in zip(*rows)]
    print(f"median: {m[1]:.1f} tokens/s, read {m[2]:.1f} GB/s, ratio {m[0]:.2f}, load {m[3]:.2f} s")


if __name__ == "__main__":
    main()
