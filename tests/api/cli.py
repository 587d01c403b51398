#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the example programs as people do: cli.py own|fixtures FOLDER TINY.gguf

FOLDER holds the programs; TINY.gguf is the model of the demo. `own` needs nothing else; `fixtures` needs the reference data that
SL_FIXTURES names, and ends with 77 (skipped) without it. Every function whose name begins with own_ or fixtures_ is one test.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import traceback

FOLDER = TINY = SCRATCH = None
FIXTURES = os.environ.get('SL_FIXTURES', '')
PROGRAMS = ('generate', 'inspect', 'logits', 'tokenize')


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err.decode(errors='replace')

    def report(self, name):
        """What stands behind "name:" on stderr."""
        found = [line.split(':', 1)[1].strip() for line in self.err.splitlines() if line.startswith(name + ':')]
        assert len(found) == 1, (name, self.err)
        return found[0]


def run(program, *arguments, stdout=subprocess.PIPE, stdin=None):
    done = subprocess.run([FOLDER / program, *arguments], stdout=stdout, stderr=subprocess.PIPE, stdin=stdin, timeout=120)
    return Result(done.returncode, done.stdout, done.stderr)


def good(program, *arguments):
    r = run(program, *arguments)
    assert r.code == 0, (program, arguments, r.code, r.err)
    return r


def bad(code, place, program, *arguments, stdout=subprocess.PIPE):
    """It must end with that code, print nothing, and say one line in which `place` stands."""
    r = run(program, *arguments, stdout=stdout)
    assert r.code == code, (program, arguments, r.code, r.err)
    assert not r.out, (program, arguments, r.out)
    lines = [line for line in r.err.splitlines() if line.startswith(program + ': ')]
    assert len(lines) == 1 and r.err.endswith('\n') and r.err.splitlines()[-1] == lines[0], (program, arguments, r.err)
    assert lines[0].count(': ') >= 2 and place in lines[0], (program, arguments, lines)
    return r


def scratch(name, content=None):
    path = SCRATCH / name
    if content is not None:
        path.write_bytes(content)
    return str(path)


def load_npy(path):
    import numpy
    return numpy.load(path)


def basic(program, model):
    """Arguments with which a program runs."""
    return {'generate': ['-m', model, '-p', 'The rover', '-n', '4'], 'inspect': [model], 'tokenize': ['-m', model, '-p', 'The rover'],
            'logits': ['-m', model, '-p', 'The rover', '-o', scratch('basic.npy')]}[program]


# ---- usage ----

def own_help():
    for program in PROGRAMS:
        r = good(program, '--help')
        assert r.out.startswith(b'usage: ' + program.encode()) and not r.err
        assert good(program, *basic(program, TINY), '--help').out == r.out


def own_wrong_usage():
    for program in PROGRAMS:
        rest = basic(program, TINY)
        bad(2, '--nonsense', program, *rest, '--nonsense')
        bad(2, '--json', program, *rest, '--json=1')
        bad(2, 'stray', program, *rest, 'stray') if program != 'inspect' else bad(2, 'stray', program, TINY, 'stray')
        bad(2, {'logits': '-o', 'inspect': 'FILE'}.get(program, '-m'), program)
        for option in ('--chat', '--lookup', '--image', '--projector', '--cross-norm', '--global-gates', '--system', '-x', '-'):
            bad(2, option, program, *rest, option, '1')
    for program in ('generate', 'logits', 'tokenize'):
        bad(2, '-p', program, '-m', TINY, *(['-o', scratch('no.npy')] if program == 'logits' else []))
        bad(2, '-p', program, *basic(program, TINY), '-f', TINY)
        bad(2, '--pre', program, *basic(program, TINY), '--pre')
        bad(2, '-m', program, '-p', 'x', *(['-o', scratch('no.npy')] if program == 'logits' else []))
    bad(2, '-o', 'logits', '-m', TINY, '-p', 'x')
    bad(2, '--tokens', 'logits', *basic('logits', TINY), '--tokens', '1')


def own_bad_numbers():
    whole = {'-t': ('513', '-1'), '--ctx': ('0', '16777217'), '--batch': ('0', '65537')}
    for program in ('generate', 'logits'):
        numbers = dict(whole)
        if program == 'generate':
            numbers.update({'-n': ('0', '4294967296'), '--top-k': ('-1', '99999999999'), '--seed': ('-1', '18446744073709551616')})
        for option, outside in numbers.items():
            for value in outside + ('', 'x', '1x', '1.5', ' 1', '0x10', '99999999999999999999999', 'nan'):
                bad(2, option, program, *basic(program, TINY), option, value)
    for option, outside in {'--temp': ('-0.1', '1e300'), '--top-p': ('-1', '1.1'), '--min-p': ('-1', '1.1')}.items():
        for value in outside + ('', 'x', '0.5x', 'nan', 'inf', '1e999'):
            bad(2, option, 'generate', *basic('generate', TINY), option, value)
    for value in ('', ',', '1,', ',1', '1,,2', '1 2', 'x', '-1', '1,2147483648', '1,99999999999999999999999'):
        bad(2, '--tokens', 'logits', '-m', TINY, '-o', scratch('no.npy'), '--tokens', value)
    good('generate', *basic('generate', TINY), '--seed=18446744073709551615', '--temp=1')


# ---- failing ----

def own_files_that_are_none():
    garbage, empty = scratch('garbage', os.urandom(4096)), scratch('empty', b'')
    short = scratch('short', pathlib.Path(TINY).read_bytes()[:5000])
    odd = scratch('odd\nname')
    for program in PROGRAMS:
        for path in (scratch('missing'), str(SCRATCH), garbage, empty, short):
            bad(1, os.path.basename(path), program, *basic(program, path))
        bad(1, 'odd?name', program, *basic(program, odd))
    for program in ('generate', 'logits', 'tokenize'):
        for path in (scratch('missing'), str(SCRATCH)):
            arguments = basic(program, TINY)
            arguments[2:4] = ['-f', path]
            bad(1, os.path.basename(path), program, *arguments)


def own_choices_that_are_not_there():
    for program in ('generate', 'logits'):
        for option, value in (('--kv', 'bf16'), ('--kv', 'q8_0'), ('--kv', 'nonsense'), ('--arith', 'bf32'), ('--arith', 'f16'), ('--cpu-level', 'nonsense'),
                              ('--backend', 'nonsense'), ('--backend', scratch('missing.so'))):
            bad(1, value, program, *basic(program, TINY), option, value)
    bad(1, '474', 'logits', '-m', TINY, '-o', scratch('no.npy'), '--tokens', '1,474')
    bad(1, 'prompt', 'generate', '-m', TINY, '-p', '', '--no-bos')
    bad(1, 'fit', 'generate', *basic('generate', TINY), '--ctx', '2')
    bad(1, 'fit', 'logits', *basic('logits', TINY), '--ctx', '2')


def own_full_disk():
    if not os.path.exists('/dev/full'):
        return
    bad(1, '/dev/full', 'logits', '-m', TINY, '-p', 'The rover', '-o', '/dev/full')
    bad(1, 'no-such-folder', 'logits', '-m', TINY, '-p', 'The rover', '-o', scratch('no-such-folder/x.npy'))
    for program in ('generate', 'inspect', 'tokenize'):
        with open('/dev/full', 'wb') as full:
            bad(1, 'stdout: No space left', program, *basic(program, TINY), stdout=full)
            bad(1, 'stdout: No space left', program, *basic(program, TINY), '--json', stdout=full)


# ---- results ----

def own_tokenize():
    assert good('tokenize', '-m', TINY, '-p', 'The rover').out == good('tokenize', '-m', TINY, '-f', scratch('text', b'The rover')).out
    ids = json.loads(good('tokenize', '-m', TINY, '-p', 'The rover').out)
    assert ids[0] == 1 and len(ids) > 2
    assert json.loads(good('tokenize', '-m', TINY, '-p', 'The rover', '--no-bos').out) == ids[1:]
    assert json.loads(good('tokenize', '-m', TINY, '-p', 'The rover', '--json').out)['ids'] == ids
    assert json.loads(good('tokenize', '-m', TINY, '-p', '', '--no-bos').out) == []
    # Bytes that are no text come through as they are: the tiny vocabulary has one token per byte, from 3 on.
    raw = b'a\0b\xff\xfe\r\n\n '
    ids = json.loads(good('tokenize', '-m', TINY, '-f', scratch('raw', raw), '--no-bos').out)
    assert 3 + 0 in ids and 3 + 13 in ids and ids.count(3 + 10) == 2, ids
    special = json.loads(good('tokenize', '-m', TINY, '-p', '</s>', '--no-bos').out)
    assert 2 in special and 2 not in json.loads(good('tokenize', '-m', TINY, '-p', '</s>', '--no-bos', '--no-special').out)


def own_generate():
    first = good('generate', '-m', TINY, '-p', 'The rover', '-n', '30')
    assert first.out and first.out == good('generate', '-m', TINY, '-f', scratch('rover', b'The rover'), '-n', '30').out
    r = json.loads(good('generate', '-m', TINY, '-p', 'The rover', '-n', '30', '--json').out)
    assert r['text'].encode() == first.out and len(r['ids']) == 30 == r['tokens'] and r['finish'] == 'length' and r['labels'] and r['threads'] >= 1
    assert r['prompt_tokens'] == len(json.loads(good('tokenize', '-m', TINY, '-p', 'The rover').out))
    hot = ['generate', '-m', TINY, '-p', 'The rover', '-n', '30', '--temp', '1.2']
    assert good(*hot, '--seed', '5').out == good(*hot, '--seed', '5').out != good(*hot, '--seed', '6').out
    assert good(*hot, '--top-k', '1').out == first.out == good(*hot, '--top-p', '0').out == good(*hot, '--min-p', '1').out
    full = good('generate', '-m', TINY, '-p', 'The rover', '-n', '30', '--ctx', '12')
    assert 'full' in full.err and first.out.startswith(full.out) and len(full.out) < len(first.out)
    assert good('generate', '-m', TINY, '-f', scratch('raw', b'\0\xff\0'), '-n', '3').out is not None


def own_minimal():
    assert good('minimal', TINY, 'The rover', '30').out == good('generate', '-m', TINY, '-p', 'The rover', '-n', '30').out
    for arguments in ([], [TINY], [TINY, 'x', '0'], [TINY, 'x', '1', 'y']):
        r = run('minimal', *arguments)
        assert r.code == 2 and not r.out and r.err.startswith('usage: minimal ')
    for path in (scratch('missing'), str(SCRATCH), scratch('empty', b''), scratch('garbage', os.urandom(4096))):
        bad(1, os.path.basename(path), 'minimal', path, 'The rover')


def own_same_bytes():
    """Threads, batches and packing change nothing, and were real."""
    text = scratch('long', b'The rover follows the ridge until dawn. ' * 8)
    base = scratch('base.npy')
    n = len(json.loads(good('tokenize', '-m', TINY, '-f', text).out))
    r = good('logits', '-m', TINY, '-f', text, '-o', base, '-t', '1')
    assert r.report('threads') == '1' and r.report('passes') == '1' and 'matmul/' in r.report('implementations')
    other = scratch('other.npy')
    for arguments, passes in ((['--batch', '1'], n), (['--batch', '7'], -(-n // 7)), (['--no-pack'], 1), (['-t', '2', '--batch', '64'], -(-n // 64)), (['--cpu-level', 'scalar'], 1)):
        r = good('logits', '-m', TINY, '-f', text, '-o', other, *arguments)
        assert r.report('passes') == str(passes), (arguments, r.err)
        if '-t' in arguments:
            assert r.report('threads') == arguments[1], r.err
        assert pathlib.Path(other).read_bytes() == pathlib.Path(base).read_bytes(), arguments
    r = good('logits', '-m', TINY, '-f', text, '-o', other, '--arith', 'bf16')
    bf16 = pathlib.Path(other).read_bytes()
    assert '/b16/' in r.report('implementations') and bf16 != pathlib.Path(base).read_bytes(), r.err
    good('logits', '-m', TINY, '-f', text, '-o', other, '--arith', 'bf16', '--batch', '7', '--cpu-level', 'scalar')
    assert pathlib.Path(other).read_bytes() == bf16
    rows = load_npy(base)
    assert rows.shape == (n, 474) and rows.dtype == 'float32' and rows.flags.c_contiguous
    assert (pathlib.Path(base).stat().st_size - rows.nbytes) % 64 == 0
    r = json.loads(good('logits', '-m', TINY, '-f', text, '-o', other, '--json').out)
    assert r['shape'] == [n, 474] and r['path'] == other and r['passes'] == 1 and any(label.startswith('matmul/') for label in r['labels'])


def own_inspect():
    text = good('inspect', TINY).out.decode()
    assert 'architecture: "llama"' in text and 'token_embd.weight' in text and 'numerics_id' in text and '...' in text
    r = json.loads(good('inspect', TINY, '--json').out)
    assert r['architecture'] == 'llama' and r['n_vocab'] == 474 and r['n_layer'] == 2
    meta = {pair['key']: pair for pair in r['metadata']}
    assert meta['tokenizer.ggml.tokens']['count'] == 474 == len(meta['tokenizer.ggml.tokens']['value'])
    assert sum(t['bytes'] for t in r['tensors']) == sum(t['bytes'] for t in r['types'].values())
    assert r['memory']['weights'] > 0 and r['memory']['compute'] > 0, r['memory']


# ---- reference data ----

def stories(kind='f32'):
    return f'{FIXTURES}/stories260K/stories260K-{kind}.gguf'


def expected():
    with open(f'{FIXTURES}/stories260K/expected.json') as file:
        return json.load(file)


def fixtures_known_continuation():
    known, start = expected()['types']['f32']['greedy_exact'], 'Once upon a time'
    r = good('generate', '-m', stories(), '-p', start, '--kv', 'f32', '-n', '190')
    text = known['text'].encode()
    assert text.startswith(start.encode() + r.out) and len(r.out) > 400, r.out
    j = json.loads(good('generate', '-m', stories(), '-p', start, '--kv', 'f32', '-n', '190', '--json').out)
    assert j['ids'] == known['ids'][5:195] and j['text'].encode() == r.out
    # From nothing but the bos token the text begins without the space of its first piece.
    assert text.startswith(good('generate', '-m', stories(), '-p', '', '--kv', 'f32', '-n', '60').out)


def fixtures_logits():
    e = expected()
    ids, exact = e['prompt']['ids'], load_npy(f'{FIXTURES}/stories260K/logits-f32-exact.npy')
    out = scratch('stories.npy')
    good('logits', '-m', stories(), '--kv', 'f32', '-o', out, '--tokens', ','.join(map(str, ids)))
    rows = load_npy(out)
    assert rows.shape == (len(ids), 512)
    assert abs(rows[e['types']['f32']['positions']] - exact).max() < 1e-4
    again = scratch('again.npy')
    good('logits', '-m', stories(), '--kv', 'f32', '-o', again, '-p', e['prompt']['text'])
    assert pathlib.Path(again).read_bytes() == pathlib.Path(out).read_bytes()


def fixtures_vocabularies():
    files = sorted(pathlib.Path(FIXTURES, 'vocab').glob('*.gguf'))
    assert len(files) >= 5
    for path in files:
        assert isinstance(json.loads(good('tokenize', '-m', str(path), '-p', 'Hello world').out), list)
        r = json.loads(good('inspect', str(path), '--json').out)
        assert not r['tensors'] and any(pair['key'] == 'tokenizer.ggml.tokens' for pair in r['metadata'])
        bad(1, path.name, 'generate', '-m', str(path), '-p', 'Hello world')


def fixtures_any_file():
    """Every file of the reference data can be looked at, whatever its architecture."""
    for path in sorted(pathlib.Path(FIXTURES).rglob('*.gguf')):
        if re.search('-0000[2-9]-of-', path.name):
            bad(1, 'first part', 'inspect', str(path))
            continue
        r = json.loads(good('inspect', str(path), '--json').out)
        assert r['metadata'] and ('error' in r['memory'] or r['memory']['weights'] > 0), path
        good('inspect', str(path))


def main(which, folder, tiny):
    global FOLDER, TINY, SCRATCH
    FOLDER, TINY = pathlib.Path(folder), tiny
    if which == 'fixtures' and not os.path.isdir(FIXTURES):
        print('SL_FIXTURES names no folder: skipped')
        return 77
    tests = [(name, test) for name, test in globals().items() if name.startswith(which + '_')]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        SCRATCH = pathlib.Path(folder)
        for name, test in tests:
            try:
                test()
                print('ok  ', name, flush=True)
            except Exception:
                failed += 1
                print('FAIL', name, flush=True)
                traceback.print_exc()
    return 1 if failed or not tests else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
