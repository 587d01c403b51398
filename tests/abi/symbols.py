#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares three lists of names: symbols.py READELF LIBRARY HEADER...

What the shared library exports, what the public headers mark with SL_API, and what symbols.txt beside this file pins must be the same.
A name that is in symbols.txt may never go away while SL_API_MAJOR stays; a new one is added there by hand.
"""
import pathlib
import re
import subprocess
import sys

DECLARATION = re.compile(r'^SL_API\b[^;(]*?\b(sl_\w+)\s*\(', re.M)


def exported(readelf, library):
    table = subprocess.run([readelf, '--dyn-syms', '-W', library], capture_output=True, text=True, check=True).stdout
    names = set()
    for line in table.splitlines():
        # Num: Value Size Type Bind Vis Ndx Name
        fields = line.split()
        if len(fields) == 8 and fields[4] in ('GLOBAL', 'WEAK') and fields[6] not in ('UND', 'ABS'):
            names.add(fields[7].split('@')[0])
    return names


def declared(headers):
    return {name for header in headers for name in DECLARATION.findall(pathlib.Path(header).read_text())}


def pinned():
    lines = (pathlib.Path(__file__).parent / 'symbols.txt').read_text().splitlines()
    names = [line for line in lines if line and not line.startswith('#')]
    if names != sorted(set(names)):
        print('symbols.txt is not sorted, or names something twice')
        sys.exit(1)
    return set(names)


def main(readelf, library, headers):
    lists = {'the library': exported(readelf, library), 'the headers': declared(headers), 'symbols.txt': pinned()}
    everything = set().union(*lists.values())
    failed = 0
    for name in sorted(everything):
        absent = [place for place, names in lists.items() if name not in names]
        if absent:
            failed += 1
            print(f'{name}: not in {" nor in ".join(absent)}')
    print(f'{len(everything)} names, {failed} differences')
    return 1 if failed or not everything else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
