#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes the first program out of the manual, so that the tests can compile and run it: first_program.py HEADER README OUT.c

It stands between @code and @endcode in spacellama.h and, as a block of C, in README.md. The two must be the same.
"""
import re
import sys


def from_header(text):
    block = re.search(r'@code\n(.*?)^ \*\s*@endcode', text, re.S | re.M).group(1)
    return re.sub(r'^ \* {0,2}', '', block, flags=re.M)


def from_readme(text):
    return re.search(r'^```c\n(.*?)^```$', text, re.S | re.M).group(1)


def main(header, readme, out):
    with open(header) as file:
        program = from_header(file.read())
    with open(readme) as file:
        if from_readme(file.read()) != program:
            sys.exit('the first program in README.md is not the one in spacellama.h')
    with open(out, 'w') as file:
        file.write(program)


if __name__ == '__main__':
    main(*sys.argv[1:])
