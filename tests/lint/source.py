#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rules that the text of the tree can be held against: source.py ROOT. Each rule is a function that yields what breaks it.

Why they exist: docs/architecture.md.
"""
import pathlib
import re
import sys

FILE_LINES, FUNCTION_LINES = 650, 70
CODE = {'.c', '.h', '.cu', '.cuh'}
FOLDERS = ('include', 'lib', 'backends', 'examples', 'tests')
# Generated tables say so in their first lines; nobody reads them in one sitting.
GENERATED = re.compile(r'generated', re.I)
# What a backend may know of the core.
CONTRACT = {'backend.h', 'tensor.h', 'type.h', 'blocks.h', 'grids.h', 'arith.h', 'fpenv.h', 'rows.h', 'mem.h', 'status.h', 'log.h', 'platform.h', 'checksum.h', 'op.h'}
# Headers that lower rooms of lib/ do not know, and those rooms.
UPPER = {'model.h', 'session.h', 'sequence.h', 'arch.h', 'kv.h', 'plan.h', 'pictures.h', 'api.h'}
LOWER = {'version', 'status', 'generator', 'mem', 'log', 'hash', 'checksum', 'type', 'arith', 'rows', 'blocks', 'grids', 'platform', 'platform_posix', 'platform_posix_files', 'platform_none', 'output', 'gguf',
         'gguf_write', 'input', 'tensor', 'backend', 'op', 'pass', 'dispatch', 'tokenizer', 'tokenizer_spm', 'tokenizer_bpe', 'splitter', 'unicode', 'unicode_data', 'sample', 'lookup', 'image', 'image_resample', 'image_tiles', 'image_bmp', 'image_jpeg', 'image_png', 'image_ppm', 'image_webp'}
ISA = re.compile(r'^\s*#\s*(?:el)?if.*\b(__x86_64__|__i386__|__aarch64__|__arm__|__AVX\w*|__SSE\w*|__FMA__|__F16C__|__ARM_\w+|__AMX\w*|__CUDA\w*)', re.M)
ISA_FILES = re.compile(r'lib/(arith|fpenv|platform|blocks|grids)\.h|lib/checksum\.c|backends/cpu/(cpu\.h|features\.c|backend\.c|kernels\w*\.[ch]|x86/.*|arm/.*)|backends/cuda/.*')
TABLE = re.compile(r'^\s*case\s+SL_(TYPE|OP|ARCH|LEVEL)_\w+', re.M)
TABLE_FILES = re.compile(r'lib/(type|op|backend|arch)\.[ch]')
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)
UNFINISHED = re.compile(r'\b(TODO|FIXME|XXX|HACK)\b|sl_placeholder_')


def includes_point_one_way(path, text, root):
    top, stem = path.parts[0], path.stem
    for mark, name in INCLUDE.findall(text):
        target = name if mark == '"' or name.startswith('spacellama/') else None
        if target is None:
            continue
        public = target.startswith('spacellama/')
        if top == 'include' and not (root / 'include/spacellama' / target).exists():
            yield f'includes "{target}": a public header includes its neighbours only'
        if top == 'lib' and (target.startswith(('backends/', 'cpu/', 'cuda/')) or (not public and not (root / 'lib' / target).exists() and not (root / path.parent / target).exists())):
            yield f'includes "{target}": lib/ knows no backend'
        if top == 'lib' and path.parent.name == 'lib' and stem in LOWER and target in UPPER:
            yield f'includes "{target}", which stands above it'
        if top == 'backends' and not public and target not in CONTRACT and not (root / path.parent / target).exists() \
                and not (root / path.parent.parent / target).exists():
            yield f'includes "{target}": of the core a backend knows {", ".join(sorted(CONTRACT))}'
        if top == 'examples' and not public and not (root / path.parent / target).exists():
            yield f'includes "{target}": examples know the public headers only'


def isa_stays_in_its_files(path, text, root):
    if path.parts[0] in ('lib', 'backends') and not ISA_FILES.fullmatch(path.as_posix()):
        for found in ISA.finditer(text):
            yield f'asks for {found.group(1)}: instruction sets belong in kernel files, lists and meson'


def sets_are_tables(path, text, root):
    if path.parts[0] in ('lib', 'backends') and not TABLE_FILES.fullmatch(path.as_posix()):
        for found in TABLE.finditer(text):
            yield f'{found.group(0).strip()}: a set of things is a table'


def is_readable_in_one_sitting(path, text, root):
    lines = text.splitlines()
    if GENERATED.search('\n'.join(lines[:6])):
        return
    if len(lines) > FILE_LINES:
        yield f'{len(lines)} lines: at most {FILE_LINES}; split it by meaning'
    start = None
    for number, line in enumerate(lines, 1):
        if line == '{':
            start = number
        elif line == '}' and start:
            if number - start + 1 > FUNCTION_LINES:
                yield f'line {start}: a function of {number - start + 1} lines, at most {FUNCTION_LINES}'
            start = None


def says_its_licence(path, text, root):
    if not text.startswith('/* SPDX-License-Identifier: MIT */'):
        yield 'does not begin with its SPDX line'


def is_finished(path, text, root):
    for found in UNFINISHED.finditer(text):
        yield f'{found.group(0)}: unfinished'


RULES = [includes_point_one_way, isa_stays_in_its_files, sets_are_tables, is_readable_in_one_sitting, says_its_licence, is_finished]


def main(root):
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob('*') if path.suffix in CODE and path.is_file())
    faults = 0
    for path in files:
        name, text = path.relative_to(root), path.read_text(errors='replace')
        for rule in RULES:
            for fault in rule(name, text, root):
                faults += 1
                print(f'{name}: {fault}')
    print(f'{len(files)} files, {len(RULES)} rules, {faults} faults')
    return 1 if faults or not files else 0


if __name__ == '__main__':
    sys.exit(main(pathlib.Path(sys.argv[1])))
