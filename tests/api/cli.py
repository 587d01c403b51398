#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the example programs as people do: cli.py own|fixtures FOLDER TINY.gguf

FOLDER holds the programs; TINY.gguf is a model of random weights. `own` needs nothing else; `fixtures` needs the reference data that
SL_FIXTURES names, and ends with 77 (skipped) without it. Every function whose name begins with own_ or fixtures_ is one test.
"""
import json
import math
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import gguf_patch
import named_tests

FOLDER = TINY = SCRATCH = None
FIXTURES = os.environ.get('SL_FIXTURES', '')
PROGRAMS = ('describe', 'generate', 'inspect', 'logits', 'tokenize')


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
    """Arguments with which a program runs (describe: with a model that takes pictures)."""
    return {'describe': ['-m', model, '-p', 'What is it?', '--image', scratch('dot.ppm', b'P6 1 1 255\n\x80\x20\xf0')],
            'generate': ['-m', model, '-p', 'The rover', '-n', '4'], 'inspect': [model], 'tokenize': ['-m', model, '-p', 'The rover'],
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
        for option in ('--chat', '--imag', '--images', '--system', '-x', '-'):
            bad(2, option, program, *rest, option, '1')
        for option in ('--image', '--projector', '--cross-norm', '--global-gates'):
            if program == 'tokenize' or (program, option) == ('inspect', '--image'):
                bad(2, option, program, *rest, option, '1')
            else:
                bad(2, option, program, *rest, option)
    for program in ('generate', 'logits', 'tokenize'):
        bad(2, '-p', program, '-m', TINY, *(['-o', scratch('no.npy')] if program == 'logits' else []))
        bad(2, '-p', program, *basic(program, TINY), '-f', TINY)
        bad(2, '--pre', program, *basic(program, TINY), '--pre')
        bad(2, '-m', program, '-p', 'x', *(['-o', scratch('no.npy')] if program == 'logits' else []))
    bad(2, '-o', 'logits', '-m', TINY, '-p', 'x')
    bad(2, '--image', 'describe', '-m', TINY, '-p', 'x')
    bad(2, '-p', 'describe', '-m', TINY, '--image', TINY)
    for option in ('--no-bos', '--no-special'):
        bad(2, option, 'describe', *basic('describe', TINY), option)
    bad(2, '--tokens', 'logits', *basic('logits', TINY), '--tokens', '1')


def own_bad_numbers():
    whole = {'-t': ('513', '-1'), '--ctx': ('0', '16777217'), '--batch': ('0', '65537')}
    for program in ('describe', 'generate', 'logits'):
        numbers = dict(whole)
        if program != 'logits':
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
    for program in ('describe', 'generate', 'logits', 'tokenize'):
        for path in (scratch('missing'), str(SCRATCH)):
            arguments = basic(program, TINY)
            arguments[2:4] = ['-f', path]
            bad(1, os.path.basename(path), program, *arguments)


def own_choices_that_are_not_there():
    for program in ('describe', 'generate', 'logits'):
        for option in ('--cross-norm', '--global-gates'):
            bad(1, 'nonsense', program, *basic(program, TINY), option, 'nonsense')
    for program in ('generate', 'logits'):
        for option, value in (('--kv', 'q4_0'), ('--kv', 'q8_0'), ('--kv', 'nonsense'), ('--arith', 'bf32'), ('--arith', 'f16'), ('--cpu-level', 'nonsense'),
                              ('--backend', 'nonsense'), ('--backend', scratch('missing.so'))):
            bad(1, value, program, *basic(program, TINY), option, value)
    bad(1, '474', 'logits', '-m', TINY, '-o', scratch('no.npy'), '--tokens', '1,474')
    bad(1, 'prompt', 'generate', '-m', TINY, '-p', '', '--no-bos')
    bad(1, 'fit', 'generate', *basic('generate', TINY), '--ctx', '2')
    bad(1, 'fit', 'logits', *basic('logits', TINY), '--ctx', '2')


def broken_pictures():
    """Files that are no pictures, or none any more."""
    png = (b'\x89PNG\r\n\x1a\n' + struct.pack('>I4sIIBBBBB', 13, b'IHDR', 1 << 20, 1 << 20, 8, 2, 0, 0, 0) + bytes(4))
    return {'missing.png': None, 'empty.png': b'', 'garbage.jpg': b'\x13\x37' * 2000, 'text.ppm': b'The rover\n', 'short.ppm': b'P6 9 9 255\n\0\0\0', 'huge.ppm': b'P6 65536 65536 255\n',
            'zero.ppm': b'P6 0 1 255\n', 'huge.png': png, 'start.jpg': b'\xff\xd8\xff\xe0', 'start.bmp': b'BM' + bytes(20), 'start.webp': b'RIFF\xff\xff\xff\xffWEBPVP8L'}


def own_pictures():
    """What can be said without a model that takes pictures."""
    for program in ('describe', 'generate', 'logits'):
        arguments = basic(program, TINY)
        arguments = arguments[:arguments.index('--image')] if program == 'describe' else arguments
        for name, content in broken_pictures().items():
            bad(1, name, program, *arguments, '--image', scratch(name, content))
        bad(1, os.path.basename(SCRATCH), program, *arguments, '--image', str(SCRATCH))
        bad(1, TINY, program, *arguments, '--image', TINY)
    dot = basic('describe', TINY)[-1]
    bad(1, 'takes no pictures', 'describe', *basic('describe', TINY))
    for program in ('generate', 'logits'):
        bad(1, 'takes no pictures', program, *basic(program, TINY), '--image', dot)
        for path in (scratch('missing'), scratch('garbage', os.urandom(4096)), TINY):
            bad(1, '', program, *basic(program, TINY), '--projector', path)
    for option, value in (('--cross-norm', 'reorder'), ('--global-gates', 'raw')):
        warned, plain = good('generate', *basic('generate', TINY), option, value), good('generate', *basic('generate', TINY), option, 'auto')
        assert warned.out == plain.out and 'warning: ' + option[2:].replace('-', '_') in warned.err and 'warning' not in plain.err, warned.err
    r = json.loads(good('inspect', TINY, '--json').out)
    assert r['vision'] == '' and 'tile_side' not in r and r['memory']['image'] == 0 == r['memory']['encoder'], r['memory']
    assert 'vision' not in good('inspect', TINY).out.decode().split('metadata:')[0]


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


def own_samplers():
    """Every step of sampling by its name: it does something, the same twice, and with drafts what it does without; wrong numbers are wrong usage."""
    start = ['generate', '-m', TINY, '-p', 'The rover', '-n', '40']
    plain, hot = good(*start).out, good(*start, '--temp', '1', '--seed', '3').out
    first = json.loads(good(*start, '--json').out)['ids'][0]
    cold = (['--penalties', '64,1.5'], ['--penalties', '32,1,0.5,1'], ['--dry', '2,1.75,1,64'], ['--logit-bias', f'{first},-inf'], ['--logit-bias', f'{first},-100', '--logit-bias', '5,1'])
    warm = (['--typical', '0.3'], ['--top-n-sigma', '0.5'], ['--xtc', '1,0.01'], ['--dynatemp', '0.9,2'], ['--mirostat', '1,0.2'], ['--mirostat', '2,0.1,50'], ['--mirostat-v2', '1.5'],
            ['--penalties', '64,1.5', '--dry', '1', '--xtc', '0.5,0.05', '--dynatemp', '0.5', '--mirostat-v2', '2,0.3', '--top-k', '30', '--typical', '0.9'])
    for arguments, other in [(a, plain) for a in cold] + [([*a, '--temp', '1', '--seed', '3'], hot) for a in warm]:
        out = good(*start, *arguments).out
        assert out and out != other, arguments
        assert out == good(*start, *arguments, '--lookup', '8').out, arguments
    assert first not in json.loads(good(*start, '--json', '--logit-bias', f'{first},-inf').out)['ids']
    assert good(*start, '--dry', '0', '--penalties', '64').out == plain == good(*start, '--mirostat', '0').out
    # Each token breaks repetitions off: none is left to be penalised.
    assert good(*start, '--dry', '2,1.75,1,64', *[f'--dry-breaker={c}' for c in ' abcdefghijklmnopqrstuvwxyz']).out == plain
    assert good(*start, '--dry', '2,1.75,1,64', '--dry-breaker=').out != plain
    bad(1, 'zzzzz', *start, '--dry', '1', '--dry-breaker', 'zzzzz')
    for option, wrong in {'--penalties': ('1.5', '-1', '64,0', '64,1,0,0,0', '99999999'), '--dry': ('-1', '1,0.5', '1,2,0', '1,2,1.5'), '--top-n-sigma': ('1,2',), '--typical': ('-1',), '--xtc': ('2', '0.5,-1'),
                          '--dynatemp': ('-1', '1,-1', '1,1,1'), '--mirostat': ('-1', '2000', '5,0.1,1'), '--mirostat-v2': ('1,1,1', '1,-1'), '--logit-bias': ('1', '1,2,3', '-1,1', '99999,1', '1.5,1', '1,1e31')}.items():
        for value in wrong + ('', 'x', '1,', ',1', '1 ,2', ' 1', 'nan', '1;2', '1x'):
            bad(2, option, *start, option, value)


def own_minimal():
    assert good('minimal', TINY, 'The rover', '30').out == good('generate', '-m', TINY, '-p', 'The rover', '-n', '30').out
    for arguments in ([], [TINY], [TINY, 'x', '0'], [TINY, 'x', '1', 'y']):
        r = run('minimal', *arguments)
        assert r.code == 2 and not r.out and r.err.startswith('usage: minimal ')
    for path in (scratch('missing'), str(SCRATCH), scratch('empty', b''), scratch('garbage', os.urandom(4096))):
        bad(1, os.path.basename(path), 'minimal', path, 'The rover')


def own_blas():
    """The module by its name, if this build has it: it is found beside the library, multiplies long prompts, and says nothing else."""
    if not os.environ.get('SL_BLAS'):
        print('built without OpenBLAS')
        return
    if 'threads of its own' in run('generate', *basic('generate', TINY), '--backend', 'blas').err:
        print('this OpenBLAS starts threads')
        return
    text, base, other = scratch('long', b'The rover follows the ridge until dawn. ' * 8), scratch('base.npy'), scratch('other.npy')
    for kind in ('F32', 'F16', 'BF16'):
        model = scratch('float.gguf')
        good('quantize', TINY, model, kind) if kind != 'F32' else pathlib.Path(model).write_bytes(pathlib.Path(TINY).read_bytes())
        good('logits', '-m', model, '-f', text, '-o', base, '--kv', 'f32')
        r = good('logits', '-m', model, '-f', text, '-o', other, '--kv', 'f32', '--backend', 'blas')
        assert f'matmul/{kind.lower()}/openblas' in r.report('implementations').split(), r.err
        difference = abs(load_npy(base) - load_npy(other)).max()
        assert 0 < difference < 1e-3, difference
    bad(1, 'bf16 arithmetic', 'generate', *basic('generate', TINY), '--backend', 'blas', '--arith', 'bf16')


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


# ---- measuring ----

def near(a, b):
    return abs(a - b) <= 1e-4 * abs(b)


BENCH = ('pp_tok_s', 'tg_tok_s', 'tg_bytes', 'tg_bw_ratio', 'pp_macs', 'm2_ratio', 'm4_ratio', 'm8_ratio', 'm16_ratio', 'ttft_s', 'load_s', 'peak_rss_mib', 'weights_mib', 'cache_mib',
         'compute_mib', 'memory_ratio', 'read_gb_s', 'processor_share')
PEAKS = ('vnni_gmac_s', 'amx_int8_gmac_s', 'amx_bf16_gmac_s', 'fp32_gmac_s', 'dotprod_gmac_s')


def quick_bench(*arguments):
    """Figures must be there and fit together; how large they are is the machine's business."""
    r = json.loads(good('bench', '-p', '24', '-n', '4', '--rounds', '1', '--json', *arguments).out)
    for name in BENCH:
        assert 0 < r[name] < 1e12, (name, r)
    for name in PEAKS:
        assert r[name] is None or 0.1 < r[name] < 1e7, (name, r)
    assert 0.01 < r['read_gb_s'] < 1e5 and r['load_s'] < r['ttft_s'], r
    assert r['weights_mib'] < r['peak_rss_mib'] and near(r['memory_ratio'], r['peak_rss_mib'] / (r['weights_mib'] + r['cache_mib'])), r
    for speed in [r, *r['depths'], *([r['image']] if 'image' in r else [])]:
        assert near(speed['tg_bw_ratio'], speed['tg_tok_s'] * speed['tg_bytes'] * 1e-9 / r['read_gb_s']), r
    assert r['pp_peak'] in PEAKS and (r['pp_peak'] == 'amx_int8_gmac_s') == any('/amx' in label for label in r['labels']), r
    peak = r[r['pp_peak']]
    assert r['pp_peak_ratio'] is None if peak is None else near(r['pp_peak_ratio'], r['pp_tok_s'] * r['pp_macs'] * 1e-9 / peak), r
    assert any(label.startswith('matmul/') for label in r['labels']) and r['machine'] and r['model'], r
    assert (r['n_prompt'], r['n_decode'], r['rounds']) == (24, 4, 1)
    return r


def own_bench():
    r = quick_bench('-m', TINY, '-t', '2', '--depth', '128,64')
    assert r['threads'] == 2 and [d['depth'] for d in r['depths']] == [64, 128] and 'image' not in r
    assert r['tg_bytes'] < r['depths'][0]['tg_bytes'] < r['depths'][1]['tg_bytes'] and all(d['pp_share_of_empty'] > 0 for d in r['depths']), r
    # The ceiling holds for the limits too.
    assert all(quick_bench('-m', TINY, '--cpu-level', 'scalar')[name] is None for name in PEAKS)
    text = good('bench', '--shape', 'tiny', '-p', '24', '-n', '4', '--rounds', '1').out.decode()
    for words in ('random tiny Q4_K_M', 'load', 'first token', 'memory at its highest', 'prompt 24', 'decode 4', 'of reading', 'pass of 16'):
        assert words in text, (words, text)


def own_bench_made_up():
    """Made-up weights are those of make_model.py: the same shapes and types; what a token costs follows from them. With experts it is those that it uses: bytes of a token
    are counted here by hand, in Q8_0 34 for 32 weights; router and norms in F32; half-precision keys and values of a layer are 512 bytes a position, 2.5 on average."""
    maker = pathlib.Path(__file__).parent.parent / 'bench' / 'make_model.py'
    attention, dense, router, ends = 2 * 256 * 256 + 2 * 256 * 128, 3 * 256 * 512, 256 * 4, 256 * 1024 + 256     # ends: the output, and a row of the embedding
    for shape, kind, matrices, read, rest in (
            ('tiny', 'Q4_K_M', 2 * (attention + dense), None, []), ('tiny-vision', 'Q8_0', 2 * (attention + dense), None, ['--image']),
            ('tiny-mixture', 'Q8_0', 2 * (attention + router + 2 * dense), (2 * (attention + 2 * dense) + ends) * 34 / 32 + 2 * (4 * (router + 2 * 256) + 2.5 * 512), []),
            ('tiny-llama4', 'Q8_0', 4 * (attention + router + 2 * dense), (4 * (attention + 2 * dense) + ends) * 34 / 32 + 4 * (4 * (router + 2 * 256) + 2.5 * 512), [])):
        subprocess.run([sys.executable, maker, scratch('made.gguf'), '--shape', shape, '--type', kind], check=True, timeout=60)
        file, made = quick_bench('-m', scratch('made.gguf'), *rest), quick_bench('--shape', shape, '--type', kind, *rest)
        for name in ('model', 'weights_mib', 'cache_mib', 'compute_mib', 'tg_bytes', 'pp_macs', 'labels'):
            assert file[name] == made[name], (name, file, made)
        assert near(made['pp_macs'], matrices), made
        assert read is None or abs(made['tg_bytes'] / read - 1) < 1e-5, (read, made)
        if rest:
            assert made['image']['tg_bytes'] == file['image']['tg_bytes'] > made['tg_bytes'] and made['image']['kept_mib'] > 0
            # Four tiles of 16 patches and a class vector, filled up to 24 positions; 3 layers of width 160; two layers of the text look at 68 positions.
            for image in file['image'], made['image']:
                layers = 3 * (4 * 160 * 160 + 2 * 160 * 320) * 96
                assert near(image['encode_matrix_macs'], layers + 14 * 14 * 3 * 160 * 64 + 3 * 160 * 256 * 68), image
                assert near(image['encode_attention_macs'], 3 * 2 * 160 * (68 * 96 + 28 * 68)) and near(image['keys_macs'], 4 * 256 * 128 * 68), image
                assert image['encode_s'] > 0 and image['keys_s'] > 0 and image['add_s'] >= image['encode_s'] + image['keys_s'], image


def own_bench_usage():
    assert good('bench', '--help').out.startswith(b'usage: bench')
    small = ['bench', '--shape', 'tiny', '-p', '8', '-n', '1', '--rounds', '1']
    bad(2, '-m', 'bench')
    bad(2, '-m', *small, '-m', TINY)
    bad(2, '--type', 'bench', '-m', TINY, '--type', 'Q8_0')
    bad(2, '--layers', 'bench', '-m', TINY, '--layers', '1')
    bad(2, 'nonsense', 'bench', '--shape', 'nonsense')
    bad(2, 'nonsense', *small, '--type', 'nonsense')
    for option, values in {'-p': ('0', 'x', '-1'), '-n': ('0', ''), '--layers': ('0', '1001'), '--rounds': ('0', '1001'), '--depth': ('', '0', 'x', '1,', ',1', '1;2', '16777217', '-1')}.items():
        for value in values:
            bad(2, option, *small, option, value)
    bad(1, 'pictures', *small, '--image')
    bad(2, 'sees pictures', 'bench', '--shape', 'tiny-vision', '--layers', '1')
    bad(1, 'nonsense', *small, '--cpu-level', 'nonsense')
    bad(1, 'missing', 'bench', '-m', scratch('missing'))
    if os.path.exists('/dev/full'):
        with open('/dev/full', 'wb') as full:
            bad(1, 'stdout: No space left', *small, stdout=full)


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


# ---- pictures ----

def seeing(name):
    return f'{FIXTURES}/mllama-tiny/{name}'


def manifest():
    with open(seeing('manifest.json')) as file:
        return json.load(file)


def prompt_of(name, case, as_text):
    """Arguments of one case of the manifest; its pictures as PPM."""
    tokens = load_npy(seeing(case['tokens'])).tolist() if isinstance(case['tokens'], str) else case['tokens']
    text = ['-f', scratch(f'{name}.txt', case['text'].encode()), '--no-bos'] if as_text else ['--tokens', ','.join(map(str, tokens))]
    return text + [argument for picture in case['images'] for argument in ('--image', seeing(f'{picture}.ppm'))]


def logits_of(model, *arguments):
    out = scratch('seen.npy')
    good('logits', '-m', model, '--kv', 'f32', '-o', out, *arguments)
    return load_npy(out)


def fixtures_seen_logits():
    m = manifest()
    bound = 4 * m['tolerance']['logits_abs']
    n = 0
    for name, case in m['cases'].items():
        for suffix, model in (('', 'model-f32.gguf'), ('-f16', 'model-f16.gguf')):
            path = seeing(f'{name}-logits{suffix}.npy')
            if not os.path.exists(path):
                continue
            wanted, rows = load_npy(path), logits_of(seeing(model), *prompt_of(name, case, False))
            assert rows.shape == wanted.shape and abs(rows - wanted).max() <= bound, (name, suffix, abs(rows - wanted).max())
            n += 1
            if case['text']:
                assert (logits_of(seeing(model), *prompt_of(name, case, True)) == rows).all(), name
    assert n == 8, n


QUESTIONS = {'image-1tile': 'Describe this image.', 'image-2x2': 'What is in the picture?'}


def fixtures_seen_greedy():
    n = 0
    for name, case in manifest()['cases'].items():
        for suffix, model in (('', 'model-f32.gguf'), ('-f16', 'model-f16.gguf')):
            if 'greedy' + suffix not in case:
                continue
            wanted = case['greedy' + suffix]
            how = ['-m', seeing(model), '--kv', 'f32', '-n', str(len(wanted))]
            r = json.loads(good('generate', *how, '--json', *prompt_of(name, case, True)).out)
            assert r['ids'] == wanted, (name, suffix, r['ids'])
            n += 1
            if name in QUESTIONS:
                ask = ['describe', *how, '-p', QUESTIONS[name], *prompt_of(name, case, False)[2:]]
                d = json.loads(good(*ask, '--json').out)
                assert d['ids'] == wanted and d['prompt_tokens'] == len(case['tokens']) and d['text'] == r['text'], (name, d['ids'])
                assert [(i['width'], i['height']) for i in d['images']] == [tuple(manifest()['images'][p]['size']) for p in case['images']]
                plain = good(*ask)
                assert plain.out == good('generate', *how, *prompt_of(name, case, True)).out and plain.out
                for phase in ('load', 'images', 'encoder', 'prompt', 'decode', 'implementations', 'threads', 'passes'):
                    assert plain.report(phase)
                assert d['image_seconds'] > 0 and d['encoder_seconds'] > 0 and 'span_attention/' in plain.report('implementations')
    assert n == 6, n


def fixtures_seen_layouts():
    """Two files, reordered rows and raw gates, told or recognised: the logits of the plain file."""
    m = manifest()
    case = m['cases']['image-2x2']
    prompt, bound = prompt_of('image-2x2', case, False), 4 * m['tolerance']['logits_abs']
    f32, f16 = load_npy(seeing('image-2x2-logits.npy')), load_npy(seeing('image-2x2-logits-f16.npy'))
    two = ['--projector', seeing('split-projector-f32.gguf')]
    reordered = pathlib.Path(seeing('model-f16-reordered.gguf')).read_bytes()
    ids = struct.pack('<IQ2i', 5, 2, 480, 489)
    keyed = scratch('keyed.gguf', gguf_patch.with_key(reordered, 'tokenizer.ggml.eos_token_ids', gguf_patch.ARRAY, ids))
    keyed_as_stored = scratch('stored.gguf', gguf_patch.with_key(pathlib.Path(seeing('model-f16.gguf')).read_bytes(), 'tokenizer.ggml.eos_token_ids', gguf_patch.ARRAY, ids))
    raw = scratch('raw.gguf', gguf_patch.with_numbers(pathlib.Path(seeing('model-f32.gguf')).read_bytes(),
                                                      lambda name: re.fullmatch(r'v\.global\.blk\.\d+\.(attn|ffn)_gate(\.weight)?', name), math.atanh))
    for model, arguments, wanted, fits in (
            (seeing('split-text-f32.gguf'), two, f32, True),
            (seeing('model-f16-reordered.gguf'), ['--cross-norm', 'reorder'], f16, True),
            (seeing('model-f16-reordered.gguf'), [], f16, False),
            (keyed, [], f16, True), (keyed, ['--cross-norm=auto'], f16, True), (keyed, ['--cross-norm', 'stored'], f16, False),
            (keyed_as_stored, ['--cross-norm', 'stored'], f16, True), (keyed_as_stored, [], f16, False),
            (raw, ['--global-gates', 'raw'], f32, True), (raw, [], f32, False), (seeing('model-f32.gguf'), ['--global-gates', 'tanh'], f32, True)):
        off = abs(logits_of(model, *arguments, *prompt) - wanted).max()
        assert (off <= bound) == fits, (model, arguments, off)
    # The text part alone is a text model: what the pair says to a prompt without pictures.
    text = prompt_of('text', m['cases']['text'], False)
    assert (logits_of(seeing('split-text-f32.gguf'), *text) == logits_of(seeing('split-text-f32.gguf'), *two, *text)).all()
    bad(1, 'the projector file is needed', 'describe', '-m', seeing('split-text-f32.gguf'), '-p', 'What?', '--image', seeing('small.ppm'))


def fixtures_seen_formats():
    """The same picture as PNG gives the same bytes; the JPEG that dog.ppm was made from may differ a little."""
    case = manifest()['cases']['image-1tile']
    plain = logits_of(seeing('model-f32.gguf'), *prompt_of('image-1tile', case, False))
    tokens = prompt_of('image-1tile', case, False)[:2]
    assert (logits_of(seeing('model-f32.gguf'), *tokens, '--image', seeing('small.png')) == plain).all()
    assert len(logits_of(seeing('model-f32.gguf'), *tokens, '--image', seeing('dog.jpg'))) == len(plain)


def fixtures_seen_counts():
    """As many pictures as image tokens, no fewer and no more; broken ones are told by name."""
    case = manifest()['cases']['two-images']
    model, out, small = seeing('model-f32.gguf'), scratch('no.npy'), ['--image', seeing('small.ppm')]
    tokens = prompt_of('two-images', case, False)[:2]
    text = prompt_of('two-images', case, True)[:3]
    plain = prompt_of('text', manifest()['cases']['text'], False)
    for n in (0, 1, 3):
        r = bad(1, '2 image tokens', 'logits', '-m', model, '-o', out, *tokens, *small * n)
        assert f'{n} pictures' in r.err
        bad(1, '2 image tokens', 'generate', '-m', model, *text, *small * n)
    bad(1, '0 image tokens', 'logits', '-m', model, '-o', out, *plain, *small)
    bad(1, '0 image tokens', 'generate', '-m', model, '-p', 'What? <|image|>', '--no-special', *small)
    good('generate', '-m', model, '-n', '1', '-p', 'What? <|image|>', *small)
    for name, content in broken_pictures().items():
        bad(1, name, 'describe', '-m', model, '-p', 'What?', *small, '--image', scratch(name, content))
    for name in ('small.png', 'small.ppm', 'dog.jpg'):
        content = pathlib.Path(seeing(name)).read_bytes()
        for length in (1, 20, len(content) // 2, len(content) - 1):
            bad(1, 'cut-' + name, 'describe', '-m', model, '-p', 'What?', '--image', scratch('cut-' + name, content[:length]))
    for option in ('--kv', '--arith', '--cpu-level', '--backend', '--pre', '--chat-format'):
        bad(1, 'nonsense', 'describe', '-m', model, '-p', 'What?', *small, option, 'nonsense')
    bad(1, 'fit', 'describe', '-m', model, '-p', 'What?', *small, '--ctx', '5')
    # What the question spells is text.
    d = json.loads(good('describe', '-m', model, '-p', '<|image|><|eot_id|>', *small, '-n', '1', '--json').out)
    assert d['prompt_tokens'] > 20 and len(d['images']) == 1


def fixtures_seen_projectors():
    """A projector that is missing, no projector, or another model's."""
    text, whole, projector = seeing('split-text-f32.gguf'), seeing('model-f32.gguf'), seeing('split-projector-f32.gguf')
    ask = ['-p', 'What?', '--image', seeing('small.ppm')]
    cut = scratch('cut.gguf', pathlib.Path(projector).read_bytes()[:-1000])
    for path in (scratch('missing'), str(SCRATCH), scratch('empty', b''), scratch('garbage', os.urandom(4096)), cut, text, whole, TINY):
        bad(1, os.path.basename(path), 'describe', '-m', text, '--projector', path, *ask)
        bad(1, os.path.basename(path), 'generate', '-m', text, '--projector', path, '-p', 'What?')
    bad(1, "mmproj-f32.gguf: key general.architecture: 'clip'", 'describe', '-m', text, '--projector', f'{FIXTURES}/llama4-tiny/mmproj-f32.gguf', *ask)
    bad(1, 'projector', 'describe', '-m', projector, *ask)
    bad(1, 'projector', 'describe', '-m', projector, '--projector', projector, *ask)
    bad(1, '', 'describe', '-m', whole, '--projector', projector, *ask)


def fixtures_seen_inspect():
    def look(path, *arguments):
        r = json.loads(good('inspect', path, *arguments, '--json').out)
        assert r['vision'] in good('inspect', path, *arguments).out.decode()
        return r
    one = look(seeing('model-f32.gguf'))
    assert 'layout L1' in one['vision'] and 'as stored' in one['vision'] and 'tanh' in one['vision'], one['vision']
    assert (one['tile_side'], one['max_tiles'], one['image_token']) == (56, 4, 512)
    assert one['memory']['image'] > 0 and one['memory']['encoder'] > 0, one['memory']
    two = look(seeing('split-text-f32.gguf'), '--projector', seeing('split-projector-f32.gguf'))
    assert 'layout L0' in two['vision'] and (two['tile_side'], two['max_tiles'], two['image_token']) == (56, 4, 512)
    assert two['memory'] == {**one['memory'], 'load_peak': two['memory']['load_peak']}, (one['memory'], two['memory'])
    alone = look(seeing('split-text-f32.gguf'))
    assert 'projector' in alone['vision'] and alone['memory']['image'] == 0, alone
    assert 'as asked for' in look(seeing('model-f16-reordered.gguf'), '--cross-norm', 'reorder')['vision']
    assert 'raw' in look(seeing('model-f32.gguf'), '--global-gates', 'raw')['vision']
    assert 'projector' in look(seeing('split-projector-f32.gguf'))['vision']
    bad(1, 'nonsense', 'inspect', seeing('model-f32.gguf'), '--cross-norm', 'nonsense')
    bad(1, 'missing', 'inspect', seeing('split-text-f32.gguf'), '--projector', scratch('missing'))


# ---- quantize, perplexity, chat ----

def types_in(path):
    return {t['name']: t['type'] for t in json.loads(good('inspect', path, '--json').out)['tensors']}


def own_new_help():
    for program in ('chat', 'embed', 'handbook', 'perplexity', 'quantize', 'serve'):
        r = good(program, '--help')
        assert r.out.startswith(b'usage: ' + program.encode()) and not r.err


def own_quantize():
    """Smaller files that run; the same for every number of threads; wrong usage and failures leave nothing behind."""
    names = good('quantize', '--list').out.decode().split()
    assert {'F16', 'BF16', 'Q8_0', 'Q2_K', 'Q3_K_S', 'Q4_K_M', 'Q5_K_M', 'Q6_K', 'IQ4_NL', 'IQ4_XS'} <= set(names), names
    for name in names:
        out = scratch('quantized.gguf')
        r = json.loads(good('quantize', TINY, out, name.lower(), '-t', '1', '--json').out)
        one = pathlib.Path(out).read_bytes()
        good('quantize', TINY, out, name, '-t', '3')
        assert pathlib.Path(out).read_bytes() == one and r['tensors'] == len(types_in(out)) and r['bytes_out'] < len(one)
        good('generate', '-m', out, '-p', 'The rover', '-n', '4')
    good('quantize', TINY, out, 'Q8_0', '--tensor', '*ffn_up*=F16', '--tensor', '*attn_q*=keep', '--pure')
    before, after = types_in(TINY), types_in(out)
    for tensor, kind in after.items():
        assert kind == ('F16' if 'ffn_up' in tensor else before[tensor] if 'attn_q' in tensor else kind), (tensor, kind)
    fresh = scratch('fresh.gguf')
    bad(2, 'TYPE', 'quantize', TINY, fresh)
    bad(2, 'IN', 'quantize')
    bad(2, 'stray', 'quantize', TINY, fresh, 'Q8_0', 'stray')
    bad(2, '--tensor', 'quantize', TINY, fresh, 'Q8_0', '--tensor', 'x')
    bad(1, 'Q9_K', 'quantize', TINY, fresh, 'Q9_K')
    bad(1, 'missing', 'quantize', scratch('missing'), fresh, 'Q8_0')
    bad(1, 'imatrix', 'quantize', TINY, fresh, 'Q8_0', '--imatrix', scratch('imatrix', b'GGUF'))
    bad(1, 'garbage', 'quantize', scratch('garbage', os.urandom(4096)), fresh, 'Q8_0')
    assert not [p.name for p in SCRATCH.iterdir() if 'fresh' in p.name]


def own_perplexity():
    """Against the same sums made of what `logits` writes; and a model against itself and against a smaller one."""
    text = scratch('text', b'The rover drove over the hill and saw the crater. ' * 8)
    ids = json.loads(good('tokenize', '-m', TINY, '-f', text).out)
    window = 32
    saved = scratch('saved.npy')
    for extra, step, first in (([], window, window // 2 + 1), (['--stride', '8'], 8, window - 8)):
        r = json.loads(good('perplexity', '-m', TINY, '-f', text, '--ctx', str(window), '--json', '--save-logits', saved, *extra).out)
        total, count = 0.0, 0
        for at in range(0, len(ids) - window + 1, step):
            part = [ids[0]] + ids[at + 1:at + window]
            good('logits', '-m', TINY, '--tokens', ','.join(map(str, part)), '-o', scratch('rows.npy'))
            rows = load_npy(scratch('rows.npy')).astype(float)
            for i in range(first, window):
                row = rows[i - 1]
                top = row.max()
                total += top + math.log(sum(math.exp(v - top) for v in row)) - row[part[i]]
                count += 1
        assert r['counted'] == count and abs(r['nll'] - total / count) < 1e-6, (r, total / count, count)
        assert load_npy(saved).shape[0] == count
        same = json.loads(good('perplexity', '-m', TINY, '-f', text, '--ctx', str(window), '--json', '--kl', saved, '--batch', '3', *extra).out)
        assert same['nll'] == r['nll'] and same['kl']['max'] < 1e-12 and same['kl']['same_top'] == 1, same
    small = scratch('small.gguf')
    good('quantize', TINY, small, 'Q4_0')
    far = json.loads(good('perplexity', '-m', small, '-f', text, '--ctx', str(window), '--json', '--kl', saved, '--stride', '8').out)['kl']
    assert 0 < far['median'] <= far['p99'] <= far['max'] and far['mean'] > 0, far
    assert b'KL' in good('perplexity', '-m', small, '-f', text, '--ctx', str(window), '--kl', saved, '--stride', '8').out
    bad(1, 'saved.npy', 'perplexity', '-m', TINY, '-f', text, '--ctx', '16', '--kl', saved)
    other = bytearray(pathlib.Path(saved).read_bytes())
    first = 10 + other[8] + 256 * other[9]      # the id of the first row
    other[first:first + 4] = struct.pack('<f', struct.unpack('<f', other[first:first + 4])[0] + 1)
    bad(1, 'another', 'perplexity', '-m', TINY, '-f', text, '--ctx', str(window), '--kl', scratch('other.npy', bytes(other)), '--stride', '8')
    bad(1, 'cut.npy', 'perplexity', '-m', TINY, '-f', text, '--ctx', str(window), '--stride', '8', '--kl', scratch('cut.npy', pathlib.Path(saved).read_bytes()[:-4]))
    bad(1, 'nothing.npy', 'perplexity', '-m', TINY, '-f', text, '--kl', scratch('nothing.npy', b''))
    bad(1, 'few', 'perplexity', '-m', TINY, '-p', '')
    bad(2, '--stride', 'perplexity', '-m', TINY, '-f', text, '--ctx', '32', '--stride', '32')


def talk(*arguments, text):
    with open(scratch('lines', text), 'rb') as lines:
        return run('chat', '-m', TINY, '--chat-format', 'llama2', *arguments, stdin=lines)


def own_chat():
    """A message per line; answers are those of the whole conversation; what was computed is kept."""
    r = talk('-n', '6', '--json', '--system', 'Be brief.', text=b'Hello\r\n\nAnd then?\nlast without end of line')
    assert r.code == 0, r.err
    answers = json.loads(r.out)['answers']
    assert len(answers) == 3 and answers[0]['kept_tokens'] == 0 and 0 < answers[1]['kept_tokens'] < answers[2]['kept_tokens'], answers
    plain = talk('-n', '6', '--system', 'Be brief.', text=b'Hello\nAnd then?\nlast without end of line')
    assert plain.out.decode(errors='replace') == ''.join(a['text'] + '\n' for a in answers), (plain.out, answers)
    assert talk('-n', '6', text=b'').out == b''
    full = talk('-n', '4', '--ctx', '64', '--json', text=b'rover rover rover\n' * 12)
    assert full.code == 0 and len(json.loads(full.out)['answers']) == 12 and 'forgotten' in full.err, full.err
    long = talk('-n', '4', '--ctx', '16', '--json', text=b'rover ' * 40 + b'\nHi\n')
    assert long.code == 0 and 'does not fit' in long.err, long.err
    bad(1, 'format', 'chat', '-m', TINY)
    bad(2, '-m', 'chat')
    bad(2, 'stray', 'chat', '-m', TINY, 'stray')
    bad(1, '--image', 'chat', '-m', TINY, '--chat-format', 'llama2', '--image', scratch('dot.ppm', b'P6 1 1 255\n\x80\x20\xf0'))


def own_chat_interrupt():
    """Ctrl-C stops the answer, not the program."""
    chat = subprocess.Popen([FOLDER / 'chat', '-m', TINY, '--chat-format', 'llama2', '-n', '2000000000', '--logit-bias', '2,-inf', '--ctx', '100000'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)
    for _ in range(2):
        chat.stdin.write(b'Hello\n')
        chat.stdin.flush()
        assert chat.stdout.read(20)
        chat.send_signal(signal.SIGINT)
        while chat.stdout.read(1) != b'\n':     # the answer may hold line ends; the next message ends the wait in any case
            pass
    out, err = chat.communicate(timeout=60)
    assert chat.returncode == 0, (chat.returncode, err)


def own_handbook():
    """The passage that has most of the question's words, rare ones before common ones; it stands before the question in one message."""
    fire, water, oil = 'Fire. Cut the power of the burning rack, then call.', 'Water loop. The pump of the water loop must not run dry; call the engineer.', 'Pump oil. Call to order oil.'
    book = scratch('book', f'{fire}\n\n\r\n  {water}  \n\t\n\n{oil}\n'.encode())
    ask = ['-m', TINY, '-n', '4', '--chat-format', 'llama2', '--json']
    for question, passage in (('What is done with a BURNING rack?', fire), ('May the pump run?', water), ('Who orders oil for the pump? Call', oil), ('Engineers', water)):
        r = json.loads(good('handbook', *ask, '--passages', book, '-p', question).out)
        assert r['passage'] == passage, (question, r['passage'])
        alone = scratch('alone', f'\t{passage}\\n\\n{question}\n'.encode())
        same = json.loads(good('describe', *ask, '--questions', alone).out)['answers'][0]
        assert same['ids'] == r['ids'] and same['prompt_tokens'] == r['prompt_tokens'] > len(passage.split())
    assert 'passage 2 of 3: Water loop' in good('handbook', *ask, '--passages', book, '-p', 'water').err
    bad(1, 'no passage', 'handbook', *ask, '--passages', book, '-p', 'xyzzy')
    bad(1, 'no passage', 'handbook', *ask, '--passages', scratch('empty', b''), '-p', 'water')
    bad(1, 'missing', 'handbook', *ask, '--passages', scratch('missing'), '-p', 'water')
    bad(2, '--passages', 'handbook', *ask, '-p', 'water')
    bad(2, '-p', 'handbook', *ask, '--passages', book)


def own_questions():
    """A line is a conversation of its own; what is wrong is told with its line."""
    ask = ['-m', TINY, '-n', '4', '--chat-format', 'llama2']
    lines = scratch('lines', b'\tThe rover?\n\tA\\nB \\\\n C\n\tThe rover?')
    answers = json.loads(good('describe', *ask, '--questions', lines, '--json').out)['answers']
    assert len(answers) == 3 and answers[0] | {'prompt_seconds': 0, 'decode_seconds': 0} == answers[2] | {'prompt_seconds': 0, 'decode_seconds': 0}
    counts = [a['prompt_tokens'] - len(json.loads(good('tokenize', '-m', TINY, '-p', '[INST] ' + text + ' [/INST]').out)) for a, text in zip(answers, ('The rover?', 'A\nB \\n C'))]
    assert counts[0] == counts[1], counts
    assert good('describe', *ask, '--questions', lines).out.decode(errors='replace') == ''.join(a['text'] + '\n' for a in answers)
    for content, words in ((b'\tx\nno tab\n', 'line 2'), (b'\n', 'line 1'), (b'\tx\0\n', 'zero'), (b'missing.png\tx\n', 'missing.png')):
        r = run('describe', *ask, '--questions', scratch('odd', content))
        assert r.code == 1 and words in r.err, r.err
    bad(1, 'missing', 'describe', *ask, '--questions', scratch('missing'))
    bad(2, '--questions', 'describe', *ask, '--questions', lines, '-p', 'x')
    bad(2, '--questions', 'describe', *ask, '--questions', lines, '--image', lines)
    assert good('describe', *ask, '--questions', scratch('empty', b'')).out == b''


def fixtures_questions():
    """Many pictures, each as if it were alone."""
    asked = [('small.ppm', 'What is it?'), ('dog.jpg', 'What?'), ('small.ppm', 'What is it?'), ('wide.ppm', 'And this?')]
    lines = scratch('lines', ''.join(f'{seeing(name)}\t{text}\n' for name, text in asked).encode())
    ask = ['-m', seeing('model-f32.gguf'), '-n', '4', '--chat-format', 'llama3', '--json']
    answers = json.loads(good('describe', *ask, '--questions', lines).out)['answers']
    assert [a['ids'] for a in answers] == [json.loads(good('describe', *ask, '--image', seeing(name), '-p', text).out)['ids'] for name, text in asked]


def fixtures_quantize_mixes():
    """Each tensor has the type that it has in the reference's file of that name."""
    for source, name, families in (('text/base-f16', 'text/base', ('q8_0', 'q3_k_m', 'q4_k_m', 'q5_k_m', 'q6_k')),
                                   ('stories260K/stories260K-f32', 'stories260K/stories260K', ('f16', 'bf16', 'q8_0', 'q4_0', 'q5_1', 'q4_k_m'))):
        for family in families:
            out = scratch('mix.gguf')
            good('quantize', f'{FIXTURES}/{source}.gguf', out, family)
            assert types_in(out) == types_in(f'{FIXTURES}/{name}-{family}.gguf'), family


def fixtures_quantize_seeing():
    """One file, two files, a projector: image matrices stay above 4 bits, and the model answers."""
    ask = ['-p', 'What?', '--image', seeing('small.ppm'), '-n', '4']
    whole, text, projector = scratch('whole.gguf'), scratch('text.gguf'), scratch('projector.gguf')
    good('quantize', seeing('model-f32.gguf'), whole, 'Q4_K_M')
    good('quantize', seeing('split-text-f32.gguf'), text, 'Q4_K_M')
    good('quantize', seeing('split-projector-f32.gguf'), projector, 'Q4_K_M')
    for path in (whole, projector):
        assert set(types_in(path).values()) <= ({'F32', 'F16'} if path == projector else {'F32', 'F16', 'Q5_0', 'Q8_0', 'Q4_K', 'Q6_K'})
    assert all(kind in ('F32', 'F16') for name, kind in types_in(whole).items() if name.startswith(('v.', 'mm.')))
    good('describe', '-m', whole, *ask)
    good('describe', '-m', text, '--projector', projector, *ask)
    good('quantize', seeing('split-projector-f32.gguf'), projector, 'Q8_0')
    assert 'Q8_0' in types_in(projector).values()
    good('describe', '-m', text, '--projector', projector, *ask)


def own_embed():
    """Vectors of words, lines and files are the same; what is printed in each form; wrong usage and texts that cannot be."""
    texts = ['The rover', 'follows the ridge', 'x']
    r = json.loads(good('embed', '-m', TINY, '--json', '--similar', *texts).out)
    rows, cosines = r['vectors'], r['cosines']
    assert len(rows) == 3 and all(len(row) == r['n_embd'] == 64 for row in rows) and r['passes'] == 1
    for a in range(3):
        assert abs(sum(x * x for x in rows[a]) - 1) < 1e-6
        for b in range(3):
            assert abs(cosines[a][b] - sum(x * y for x, y in zip(rows[a], rows[b]))) < 1e-6
    lines = good('embed', '-m', TINY, *texts).out
    assert [[float(x) for x in line.split()] for line in lines.decode().splitlines()] == rows
    path = scratch('lines', '\r\n'.join(texts).encode())
    assert good('embed', '-m', TINY, '-f', path, '--seqs', '1', '-t', '1', '--batch', '2').out == lines
    with open(path, 'rb') as file:
        assert run('embed', '-m', TINY, stdin=file).out == lines
    table = good('embed', '-m', TINY, '--similar', *texts).out.decode().splitlines()
    assert len(table) == 3 and all(abs(float(x) - cosines[a][b]) < 1e-4 for a in range(3) for b, x in enumerate(table[a].split()))
    ids = [json.loads(good('tokenize', '-m', TINY, '-p', text).out) for text in texts]
    every = json.loads(good('embed', '-m', TINY, '--json', '--pooling', 'none', '--raw', *texts).out)
    assert len(every['vectors']) == every['tokens'] == sum(map(len, ids))
    last = json.loads(good('embed', '-m', TINY, '--json', '--pooling', 'last', '--raw', *texts).out)['vectors']
    assert last[0] == every['vectors'][len(ids[0]) - 1] and last[2] == every['vectors'][-1]
    empty = scratch('empty', b'')
    bad(1, 'text', 'embed', '-m', TINY, '-f', empty)
    bad(1, 'no tokens', 'embed', '-m', TINY, '--no-bos', 'x', '')
    bad(1, 'fit', 'embed', '-m', TINY, '--ctx', '2', *texts)
    bad(1, 'cls', 'embed', '-m', TINY, '--pooling', 'cls', 'x')
    bad(1, 'missing', 'embed', '-m', scratch('missing'), 'x')
    bad(1, 'missing', 'embed', '-m', TINY, '-f', scratch('missing'))
    bad(2, '-f', 'embed', '-m', TINY, '-f', path, 'x')
    bad(2, '-m', 'embed', 'x')
    bad(2, '--seqs', 'embed', '-m', TINY, '--seqs', '0', 'x')
    if os.path.exists('/dev/full'):
        with open('/dev/full', 'wb') as full:
            bad(1, 'stdout: No space left', 'embed', '-m', TINY, 'x', stdout=full)


def own_importance():
    """An importance matrix of a text is the same however it is computed, is read by quantize, and by inspect as any file."""
    text, out, other = scratch('long', b'The rover follows the ridge until dawn. ' * 8), scratch('importance.gguf'), scratch('other.gguf')
    good('perplexity', '-m', TINY, '-f', text, '--ctx', '32', '--importance', out)
    good('perplexity', '-m', TINY, '-f', text, '--ctx', '32', '--importance', other, '-t', '3', '--batch', '5')
    assert pathlib.Path(out).read_bytes() == pathlib.Path(other).read_bytes()
    r = json.loads(good('inspect', out, '--json').out)
    meta = {pair['key']: pair['value'] for pair in r['metadata']}
    names = {t['name'] for t in r['tensors']}
    matrices = {t['name'] for t in json.loads(good('inspect', TINY, '--json').out)['tensors'] if len(t['dims']) > 1}
    assert meta['general.type'] == 'imatrix' and meta['imatrix.datasets'] == [text] and meta['imatrix.chunk_size'] * meta['imatrix.chunk_count'] > 0, meta
    assert {n[:-8] for n in names if n.endswith('.in_sum2')} == {n[:-7] for n in names if n.endswith('.counts')} == matrices - ({'token_embd.weight'} if 'output.weight' in matrices else set()), names
    plain, weighted = scratch('plain.gguf'), scratch('weighted.gguf')
    good('quantize', TINY, plain, 'IQ4_NL', '--pure')
    good('quantize', TINY, weighted, 'IQ4_NL', '--pure', '--imatrix', out)
    assert pathlib.Path(plain).read_bytes() != pathlib.Path(weighted).read_bytes()
    bad(1, 'no-such-folder', 'perplexity', '-m', TINY, '-f', text, '--ctx', '32', '--importance', scratch('no-such-folder/x.gguf'))


def fixtures_importance():
    """Stories of a trained model say which columns count: other stories are told better by four bits with it than without. Measured: 0.77 and 0.87 of the KL."""
    told = [good('generate', '-m', stories(), '-p', '', '-n', '240', '--temp', '0.9', '--seed', str(seed)).out + b'\n' for seed in range(12)]
    about, others, base, importance, small = scratch('about', b''.join(told[:8])), scratch('others', b''.join(told[8:])), scratch('base.npy'), scratch('importance.gguf'), scratch('small.gguf')
    window = ('--ctx', '128', '--kv', 'f32')
    good('perplexity', '-m', stories(), '-f', others, *window, '--save-logits', base)
    good('perplexity', '-m', stories(), '-f', about, *window, '--importance', importance)
    for arguments, most in ((['IQ4_NL', '--pure'], 0.9), (['Q3_K_M'], 1.0)):
        kl = []
        for extra in ([], ['--imatrix', importance]):
            good('quantize', stories(), small, *arguments, *extra)
            kl.append(json.loads(good('perplexity', '-m', small, '-f', others, *window, '--kl', base, '--json').out)['kl']['mean'])
        assert kl[1] < most * kl[0], (arguments, kl)


def own_serve():
    """Prompts answered at once have the answers that they have alone, in whatever way they are chosen; those that begin alike are computed once."""
    prompts = ['The rover follows the ridge', 'The rover follows the ridge until the battery is low', 'A', 'Once upon a time there was a light', 'station']
    path = scratch('prompts', '\n\n'.join(prompts).encode() + b'\r\n')
    for how in ([], ['--temp', '0.9', '--seed', '5', '--penalties', '16,1.2,0,0']):
        alone = [json.loads(good('generate', '-m', TINY, '-p', prompt, '-n', '20', '--json', *how).out)['text'] for prompt in prompts]
        for seqs in ('8', '2', '1'):
            r = json.loads(good('serve', '-m', TINY, '-f', path, '-n', '20', '--json', '--seqs', seqs, '--share', *how).out)
            assert len(r['answers']) == len(prompts)
            for answer in r['answers']:
                assert answer['text'] == alone[answer['prompt'] - 1], (answer, alone)
        with open(path, 'rb') as lines:
            r = run('serve', '-m', TINY, '-n', '20', *how, stdin=lines)
        assert r.code == 0 and b'[3] ' + alone[2].encode() in r.out and 'per second' in r.err, (r.out, r.err)
    bad(1, 'there is none', 'serve', '-m', TINY, '-f', scratch('none', b'\n\n'))
    bad(1, 'missing', 'serve', '-m', TINY, '-f', scratch('missing'))
    bad(1, 'fit', 'serve', '-m', TINY, '-f', path, '--ctx', '4')
    bad(2, '-p', 'serve', '-m', TINY, '-p', 'x')
    bad(2, '--lookup', 'serve', '-m', TINY, '--lookup', '3')


def fixtures_embed():
    """What a trained model finds alike: stories about dogs before the weather."""
    r = json.loads(good('embed', '-m', stories(), '--json', '--similar', 'Once upon a time there was a little dog', 'One day a little dog ran away', 'It was raining all day').out)
    cosines = r['cosines']
    assert cosines[0][1] > cosines[0][2] and cosines[0][1] > cosines[1][2], cosines


def fixtures_chat_pictures():
    """A picture of the first message is looked at in every turn, and computed once."""
    with open(scratch('lines', b'What is it?\nAnd now?\n'), 'rb') as lines:
        r = run('chat', '-m', seeing('model-f32.gguf'), '--image', seeing('small.ppm'), '-n', '4', '--json', '--chat-format', 'llama3', stdin=lines)
    assert r.code == 0, r.err
    first = json.loads(r.out)['answers'][0]
    alone = json.loads(good('describe', '-m', seeing('model-f32.gguf'), '--image', seeing('small.ppm'), '-p', 'What is it?', '-n', '4', '--chat-format', 'llama3', '--json').out)
    assert first['ids'] == alone['ids'] and len(json.loads(r.out)['answers']) == 2, (first, alone)


def main(which, folder, tiny):
    global FOLDER, TINY
    FOLDER, TINY = pathlib.Path(folder), tiny
    return named_tests.run(globals(), which)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
