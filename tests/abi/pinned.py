#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sees to it that layout.c pins everything: pinned.py LAYOUT INCLUDE COMPILER...

Reads the public headers as the compiler does and looks for a row in layout.c for the size of every structure, the offset of every
member, and the value of every constant. Rows for things that no longer exist do not compile, so the two cannot drift apart.
"""
import re
import subprocess
import sys

STRUCT = re.compile(r'typedef struct (sl_\w+)\s*\{(.*?)\}\s*\1\s*;', re.S)
ENUM = re.compile(r'\benum\b[^{;]*\{(.*?)\}', re.S)
MEMBER = re.compile(r'\(\s*\*\s*(\w+)\s*\)\s*\(|(\w+)\s*(?:\[[^\]]*\])?\s*$')     # a function pointer, or the last word
DEFINE = re.compile(r'^#define (SL_\w+) \(?(-?[0-9]\w*)\)?$', re.M)             # a macro that is a number
VERSION = re.compile(r'SL_API_')                                                # what changes with every release


def read(compiler, include, *options):
    command = [*compiler, '-E', '-P', *options, f'-I{include}', '-x', 'c', '-']
    return subprocess.run(command, input='#include <spacellama/spacellama.h>\n', capture_output=True, text=True, check=True).stdout


def needed(compiler, include):
    text = read(compiler, include)
    for name, body in STRUCT.findall(text):
        yield f'SIZE({name},'
        for declaration in filter(None, map(str.strip, body.split(';'))):
            function, plain = MEMBER.search(declaration).groups()
            yield f'MEMBER({name}, {function or plain},'
    constants = [name for name, _ in DEFINE.findall(read(compiler, include, '-dM'))]
    for body in ENUM.findall(text):
        constants += [row.split('=')[0].strip() for row in body.split(',') if row.strip()]
    for name in constants:
        # A trailing underscore: not for programs.
        if name.startswith('SL_') and not name.endswith('_') and not VERSION.match(name):
            yield f'VALUE({name},'


def main(layout, include, compiler):
    with open(layout) as file:
        rows = file.read()
    wanted = sorted(set(needed(compiler, include)))
    lacking = [row for row in wanted if row not in rows]
    for row in lacking:
        print(f'layout.c lacks a row {row} ...)')
    print(f'{len(wanted)} rows needed, {len(lacking)} lacking')
    return 1 if lacking or not wanted else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
