#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles each public header alone, as strictly as programs may: headers.py COMPILER INCLUDE HEADER...

A C compiler reads them as C11 and C17, a C++ compiler as C++11 and C++17. Exit status 77 if the machine has no such compiler.
"""
import pathlib
import shutil
import subprocess
import sys

LANGUAGES = {False: ('c', ['c11', 'c17']), True: ('c++', ['c++11', 'c++17'])}


def main(compiler, include, headers):
    if not shutil.which(compiler):
        print(f'{compiler} is not installed')
        return 77
    language, standards = LANGUAGES[compiler.endswith('++')]
    include = pathlib.Path(include).resolve()
    headers = {pathlib.Path(header).resolve() for header in headers}
    failed = 0
    for header in sorted(headers ^ set(include.rglob('*.h'))):
        failed += 1
        print(f'{header} is not both in the folder and in include/meson.build')
    for header in sorted(headers):
        # Twice: the guard must hold too.
        name = header.relative_to(include)
        source = f'#include <{name}>\n#include <{name}>\n'
        for standard in standards:
            command = [compiler, f'-std={standard}', '-Wall', '-Wextra', '-pedantic', '-Wshadow', '-Werror', '-fsyntax-only', '-x', language,
                       f'-I{include}', '-']
            result = subprocess.run(command, input=source, capture_output=True, text=True)
            if result.returncode:
                failed += 1
                print(f'{name} as {standard} with {compiler}:\n{result.stderr}')
    print(f'{len(headers)} headers, {", ".join(standards)}, {compiler}: {failed} failed')
    return 1 if failed or not headers else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
