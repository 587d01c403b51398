#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the Python program of the manual beside the one in C: first_python.py README PROGRAM MODEL. They must print the same.

It stands as a block of Python in README.md. The library is found where the environment says.
"""
import pathlib
import re
import subprocess
import sys


def main(readme, program, model):
    source = re.search(r'^```python\n(.*?)^```$', pathlib.Path(readme).read_text(), re.S | re.M).group(1)
    expected = subprocess.run([program, model], capture_output=True, check=True).stdout
    got = subprocess.run([sys.executable, '-c', source, model], capture_output=True)
    if got.returncode or not expected or got.stdout != expected:
        sys.exit(f'exit status {got.returncode}: {got.stderr.decode()}\n{got.stdout}\ninstead of\n{expected}')
    refused = subprocess.run([sys.executable, '-c', source, model + '.none'], capture_output=True)
    if refused.returncode != 1 or b'ERR_IO' not in refused.stderr:
        sys.exit(f'without a model: exit status {refused.returncode}: {refused.stderr.decode()}')


if __name__ == '__main__':
    main(*sys.argv[1:])
