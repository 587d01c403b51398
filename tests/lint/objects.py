#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Searches the compiled objects of lib/ and backends/: objects.py READELF ARCHIVE...

- Every name that they take from outside must stand in imports.txt, on a line that begins with a file and a colon for that file alone. So nothing can exit, abort, print, read the environment, take a lock
  on the locale or call a libm function whose bits depend on the machine, without somebody having written it down there.
- No object may have writable data: the library keeps no state outside its handles. The two exceptions are the sentence of
  sl_last_error(), one per thread, and the lock around OpenBLAS (backends/blas/turn.c).
"""
import pathlib
import re
import subprocess
import sys

# May not even be written into imports.txt, unless for one file alone.
NEVER = re.compile(r'exit|_exit|_Exit|quick_exit|abort|__assert\w*|v?f?printf|puts|fputs|f?putc|putchar|perror|stdout|stderr|stdin|std(out|err)'
                   r'|(secure_)?getenv|setenv|putenv|environ|setlocale|uselocale|localeconv|strto[dfl]d?|atof|s?scanf|signal|sigaction|raise|kill|_?longjmp'
                   r'|_?_?setjmp|s?rand(om)?(_r)?|exp[2f]?|expm1f?|logf?|log2f?|log10f?|powf?|sinf?|cosf?|tanf?|tanhf?|erff?|sqrtf?')
# Put there by the compiler and the linker, whatever the source says.
COMPILER = re.compile(r'_GLOBAL_OFFSET_TABLE_|__stack_chk_(fail|guard)|__tls_get_addr|_TLS_MODULE_BASE_|__(aarch64_)?(cas|swp|ldadd|ldclr|ldeor|ldset)\d+_\w+'
                      r'|__(u?div|u?mod|mul|fix|float|extend|trunc)\w+[td]i\d*')
WRITABLE = re.compile(r'\.(data(?!\.rel\.ro)|bss|tdata|tbss|init_array|fini_array|ctors|dtors)')
OWNERS = (('.tbss', 'status.c'), ('.bss', 'turn.c'))       # sections, and the objects that own what is in them

SECTION = re.compile(r'^\s*\[\s*(\d+)\]\s+(\S+)\s+(\S+)\s+[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)\s+[0-9a-f]+\s+(\w*)', re.M)
SYMBOL = re.compile(r'^\s*\d+:\s+[0-9a-f]+\s+\w+\s+(\w+)\s+(LOCAL|GLOBAL|WEAK|UNIQUE)\s+\w+.*?\s(UND|ABS|COM|\d+)\s+(\S+)$', re.M)


def objects(readelf, archives):
    """(name, readelf's text) of every object in the archives."""
    text = subprocess.run([readelf, '-SsW', *archives], capture_output=True, text=True, check=True).stdout
    parts = re.split(r'^File: (.*)$', text, flags=re.M)
    return list(zip(parts[1::2], parts[2::2]))


def allowed():
    """(source, name) of every name of imports.txt; the source is '' where any may take it."""
    pairs = set()
    for line in (pathlib.Path(__file__).parent / 'imports.txt').read_text().splitlines():
        source, names = re.fullmatch(r'(?:(\w+\.c):)?([^#]*).*', line).groups()
        pairs |= {(source or '', name) for name in names.split()}
    for source, name in sorted(pairs):
        if not source and NEVER.fullmatch(name):
            print(f'imports.txt allows {name}, which the library never calls')
            sys.exit(1)
    return pairs


def plain(name):
    """Without the version and the marks of fortified calls and large files: __memcpy_chk is memcpy, open64 is open."""
    name = name.split('@')[0]
    return re.sub(r'^__(\w+)_chk$', r'\1', re.sub(r'^(open|pread|pwrite|lseek|l?stat|fstat|mmap|ftruncate)64', r'\1', name))


def main(readelf, *archives):
    rows = objects(readelf, archives)
    known = allowed()
    defined, imports, faults = set(), set(), []
    for path, text in rows:
        source = re.split(r'[/\[(]', path)[-1].rstrip('])')
        for _, name, kind, size, flags in SECTION.findall(text):
            if 'W' in flags and int(size, 16) and WRITABLE.match(name):
                if not any(name.startswith(section) and owner in source for section, owner in OWNERS):
                    faults.append(f'{source}: {int(size, 16)} bytes of writable data in {name}')
        for kind, binding, section, name in SYMBOL.findall(text):
            if section == 'COM':
                faults.append(f'{source}: the writable variable {name}')
            elif section == 'UND':
                imports.add((re.sub(r'^(\.\._)*|\.o$', '', source), plain(name)))
            elif binding != 'LOCAL':
                defined.add(name.split('@')[0])
    for source, name in sorted(imports):
        if name not in defined and not known & {('', name), (source, name)} and not COMPILER.fullmatch(name):
            faults.append(f'{source}: takes {name} from outside, which is not in imports.txt')
    for fault in faults:
        print(fault)
    print(f'{len(rows)} objects, {len(imports)} names from other objects or outside, {len(faults)} faults')
    return 1 if faults or not rows or not defined else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
