#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Converts small random checkpoints and runs them: convert.py own|fixtures SOURCE EXAMPLES

SOURCE is the folder of the converter, EXAMPLES that of the programs. Logits of the library are compared with those of the checkpoint's own mathematics in
double precision (reference.py), so a wrong permutation, a gate taken twice or an expert turned the wrong way is seen. `fixtures` needs the reference data that
SL_FIXTURES names, and ends with 77 (skipped) without it.
"""
import copy
import importlib.util
import json
import os
import pathlib
import re
import struct
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print('numpy is missing: skipped')
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'support'))
import checkpoints as make
import gguf_read
import named_tests
import reference

FIXTURES = os.environ.get('SL_FIXTURES', '')
SOURCE = PROGRAMS = SCRATCH = CONVERTER = None      # CONVERTER: convert.py as a module; starting it anew each time would take most of the time
TOLERANCE = 2e-4        # of logits of size 1, computed with float activations of F32 weights

LLAMA3_TOKENS = ['<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>', '<|end_header_id|>', '<|eom_id|>', '<|eot_id|>']
LLAMA4_TOKENS = ['<|begin_of_text|>', '<|end_of_text|>', '<|header_start|>', '<|header_end|>', '<|eom|>', '<|eot|>', '<|image_start|>', '<|image_end|>', '<|image|>',
                 '<|tile_x_separator|>', '<|tile_y_separator|>', '<|patch|>']
N_PLAIN = 256 + len(make.MERGES)
SETTINGS3 = {'bos_token': '<|begin_of_text|>', 'eos_token': {'content': '<|eot_id|>'}, 'chat_template': 'a template <|start_header_id|>'}
SETTINGS4 = {'bos_token': '<|begin_of_text|>', 'eos_token': '<|eot|>'}


def llama3_files(**changes):
    return {'tokenizer.json': make.byte_level(LLAMA3_TOKENS, **changes), 'tokenizer_config.json': SETTINGS3}


def run(*arguments, code=0):
    done = subprocess.run(list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, env={**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'})
    assert done.returncode == code, (arguments, done.returncode, done.stdout[-500:], done.stderr.decode(errors='replace')[-2000:])
    return done


def convert(folder, kind='F32'):
    out = SCRATCH / f'{pathlib.Path(folder).name}-{kind}.gguf'
    CONVERTER.convert(str(folder), str(out), kind)
    return out


def logits(model, ids, *pictures):
    out = SCRATCH / 'logits.npy'
    images = [word for picture in pictures for word in ('--image', picture)]
    run(PROGRAMS / 'logits', '-m', model, '--tokens', ','.join(map(str, ids)), '-o', out, '--kv', 'f32', *images)
    return np.load(out).astype(float)


def tokens(model, text, *flags):
    (SCRATCH / 'text').write_bytes(text.encode() if isinstance(text, str) else text)
    return json.loads(run(PROGRAMS / 'tokenize', '-m', model, '-f', SCRATCH / 'text', *flags).stdout)


def close(found, wanted, tolerance=TOLERANCE):
    scale = np.abs(wanted).max()
    error = np.abs(found - wanted).max() / scale
    print(f'    logits up to {scale:.2f}, off by {error:.1e} of that', flush=True)
    assert found.shape == wanted.shape and error < tolerance, error
    return error


def picture(name, wide, high, seed=5):
    """A random picture as a file, and its pixels [high, wide, 3] from 0 to 1."""
    pixels = np.random.default_rng(seed).integers(0, 256, (high, wide, 3), np.uint8)
    (SCRATCH / name).write_bytes(b'P6 %d %d 255\n' % (wide, high) + pixels.tobytes())
    return SCRATCH / name, pixels / 255


def some_ids(n, n_vocab, seed=9):
    return [int(i) for i in np.random.default_rng(seed).integers(0, n_vocab, n)]


# ---- logits of every family ----

def own_llama():
    """Every difference that a configuration of Llama can state: scaling of positions, heads of another width, biases, one matrix for both ends, shards, dtypes."""
    n = N_PLAIN + len(LLAMA3_TOKENS)
    scaling3 = {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, 'original_max_position_embeddings': 64}
    cases = {
        'llama2': ({}, {}), 'tied': ({'tie_word_embeddings': True}, {}), 'llama3': ({'rope_theta': 500000.0, 'rope_scaling': scaling3}, {'dtype': 'BF16'}),
        'heads': ({'head_dim': 24, 'num_key_value_heads': 4}, {'n_shards': 3}), 'biases': ({'attention_bias': True, 'mlp_bias': True}, {'dtype': 'F16'}),
        'linear': ({'rope_scaling': {'type': 'linear', 'factor': 4.0}}, {}),
        'yarn': ({'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 64}}, {}),
        'mistral': ({'model_type': 'mistral', 'sliding_window': 128}, {'dtype': lambda name: 'F16' if 'mlp' in name else 'BF16'}),
        'mixtral': ({'model_type': 'mixtral', 'num_local_experts': 4, 'num_experts_per_tok': 2, 'rope_theta': 1e6}, {}),
    }
    for seed, (name, (changes, storing)) in enumerate(cases.items()):
        config, drawn = make.llama(seed, n, **changes)
        values = make.save(SCRATCH / name, config, drawn, llama3_files(), **storing)
        ids = some_ids(48, n)
        print(f'    {name}')
        model = convert(SCRATCH / name)
        close(logits(model, ids), reference.llama(config, values, ids))
        keys, tensors = gguf_read.read(model)
        assert ('output.weight' in tensors) == (not config['tie_word_embeddings'])
        assert keys['llama.context_length'] == config.get('sliding_window', 256)


def own_llama_rope_parameters():
    """What newer folders write in one place."""
    config, drawn = make.llama(3, N_PLAIN + 6)
    old = {**config, 'rope_theta': 5000.0, 'rope_scaling': {'type': 'linear', 'factor': 2.0}}
    new = {**config, 'rope_parameters': {'rope_type': 'linear', 'rope_theta': 5000.0, 'factor': 2.0}}
    files = []
    for name, c in (('old', old), ('new', new)):
        make.save(SCRATCH / name, c, drawn, llama3_files())
        out = SCRATCH / 'same-name.gguf'
        run(sys.executable, SOURCE / 'convert.py', SCRATCH / name, out, '--name', 'x')
        files.append(out.read_bytes())
    assert files[0] == files[1]


def mllama_files():
    files = llama3_files(pairs_as_lists=False)
    n = N_PLAIN + len(LLAMA3_TOKENS)
    files['tokenizer.json']['added_tokens'].append({'id': n, 'content': '<|image|>', 'special': True})
    return n, files


def mllama_tiles(pixels, n_wide):
    mean, deviation = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    return np.stack(np.split((pixels - mean) / deviation, n_wide, axis=1)).transpose(0, 3, 1, 2)


def own_mllama():
    """Without a picture, with one tile, with two side by side; the sharded folder by the names that newer versions write is the same."""
    n, files = mllama_files()
    config, drawn = make.mllama(20, n)
    values = make.save(SCRATCH / 'mllama', config, drawn, files)
    model = convert(SCRATCH / 'mllama')
    ids = some_ids(20, n)
    close(logits(model, ids), reference.mllama(config, values, ids))
    seeing = ids[:4] + [n] + ids[4:]
    answers = {}
    for name, wide, arrangement in (('one.ppm', 1, 1), ('two.ppm', 2, 2)):
        path, pixels = picture(name, 28 * wide, 28)
        answers[name] = reference.mllama(config, values, seeing, mllama_tiles(pixels, wide), arrangement)
        close(logits(model, seeing, path), answers[name])
    blind = np.abs(reference.mllama(config, values, ids)[-1] - answers['one.ppm'][-1]).max()
    assert blind > 0.05 and np.abs(answers['one.ppm'] - answers['two.ppm']).max() > 0.05, 'the picture does not matter'
    keys, tensors = gguf_read.read(model)
    assert 'tokenizer.ggml.eos_token_ids' not in keys and keys['tokenizer.ggml.tokens'][n] == '<|image|>' and len(keys['tokenizer.ggml.tokens']) == n + 1
    gate = drawn['vision_model.gated_positional_embedding.gate']
    assert np.allclose(tensors['v.position_embd.gate'][1] + tensors['v.tile_position_embd.gate'][1], 1) and np.allclose(tensors['v.tile_position_embd.gate'][1], np.tanh(gate))
    newer = {name.replace('language_model.lm_head', 'lm_head').replace('language_model.model.', 'model.language_model.') if name.startswith('language_model') else f'model.{name}': tensor
             for name, tensor in drawn.items()}
    make.save(SCRATCH / 'newer', config, newer, files, n_shards=2)
    out = SCRATCH / 'newer.gguf'
    run(sys.executable, SOURCE / 'convert.py', SCRATCH / 'newer', out, '--type', 'F32', '--name', 'mllama')
    assert out.read_bytes() == model.read_bytes()


def own_llama4():
    """Text over several chunks, with and without norms of queries and keys; a picture."""
    n, patch = 288, N_PLAIN + LLAMA4_TOKENS.index('<|patch|>')      # more rows than tokens
    files = {'tokenizer.json': make.byte_level(LLAMA4_TOKENS, make.LLAMA4_PATTERN), 'tokenizer_config.json': SETTINGS4}
    at = {text: N_PLAIN + i for i, text in enumerate(LLAMA4_TOKENS)}
    plain = some_ids(40, N_PLAIN)
    for name, changes in (('llama4', {}), ('llama4-plain', {'use_qk_norm': False, 'num_experts_per_tok': 2, 'rope_scaling': None, 'interleave_moe_layer_step': 1, 'moe_layers': list(range(8))})):
        config, drawn = make.llama4(40, n, patch, **changes)
        values = make.save(SCRATCH / name, config, drawn, files)
        model = convert(SCRATCH / name)
        close(logits(model, plain), reference.llama4(config, values, plain))
        path, pixels = picture('tile.ppm', 28, 28)
        seeing = plain[:3] + [at['<|image_start|>'], at['<|image|>']] + [patch] * 4 + [at['<|image_end|>']] + plain[3:13]
        wanted = reference.llama4(config, values, seeing, ((pixels - 0.5) / 0.5).transpose(2, 0, 1))
        close(logits(model, seeing, path), wanted)
        assert np.abs(wanted - reference.llama4(config, values, seeing))[-1].max() > 0.05, 'the picture does not matter'
        keys, _ = gguf_read.read(model)
        assert keys['tokenizer.ggml.eot_token_id'] == at['<|eot|>'] and keys['tokenizer.ggml.eom_token_id'] == at['<|eom|>'] and keys['tokenizer.ggml.pre'] == 'llama4'
        assert keys['tokenizer.ggml.token_type'][N_PLAIN + len(LLAMA4_TOKENS):] == [5] * (n - N_PLAIN - len(LLAMA4_TOKENS))
    # The text model alone, as a folder of its own.
    config, drawn = make.llama4(40, n, patch)
    alone = {name.removeprefix('language_model.'): tensor for name, tensor in drawn.items() if name.startswith('language_model.')}
    make.save(SCRATCH / 'text-alone', config['text_config'], alone, files)
    close(logits(convert(SCRATCH / 'text-alone'), plain), reference.llama4(config, drawn, plain))


# ---- types ----

def own_types():
    """F16, BF16 and Q8_0 hold the nearest values; Q8_0 has the bytes that the library's own quantizing makes; small tensors stay exact."""
    n, files = mllama_files()
    config, drawn = make.mllama(21, n)
    values = make.save(SCRATCH / 'types', config, drawn, files)
    (SCRATCH / 'quantized.gguf').unlink(missing_ok=True)
    whole = convert(SCRATCH / 'types')
    _, exact = gguf_read.read(whole)
    run(PROGRAMS / 'quantize', whole, SCRATCH / 'quantized.gguf', 'Q8_0', '--pure')
    _, quantized = gguf_read.read(SCRATCH / 'quantized.gguf')
    counts = {}
    for kind, number in (('F16', 1), ('BF16', 30), ('Q8_0', 8)):
        keys, tensors = gguf_read.read(convert(SCRATCH / 'types', kind))
        assert keys['general.file_type'] == {'F16': 1, 'BF16': 32, 'Q8_0': 7}[kind] and set(tensors) == set(exact)
        for name, (found, array) in tensors.items():
            original = exact[name][1]
            counts[kind, found] = counts.get((kind, found), 0) + 1
            if found == 0:
                assert original.ndim < 2 and (array == original).all(), name
            elif found == 1:
                assert (array == original.astype(np.float16)).all(), name
            elif found == 30:
                back = (array.view('<u2').astype(np.uint32) << 16).view(np.float32).reshape(original.shape)
                assert (np.abs(back - original) <= np.abs(original) * 2.0 ** -8).all(), name
            else:
                assert original.shape[-1] % 32 == 0 and quantized[name][0] == 8 and (array == quantized[name][1]).all(), name
        assert counts[kind, number] > 40, counts
    ids = some_ids(20, n)
    wanted = reference.mllama(config, values, ids)
    close(logits(convert(SCRATCH / 'types', 'F16'), ids), wanted, 5e-3)
    close(logits(convert(SCRATCH / 'types', 'Q8_0'), ids), wanted, 0.15)


def own_q8_0_edges():
    """Halves, zeros, signs, the largest and the smallest scales: the bytes of the library's own quantizing."""
    config, drawn = make.llama(5, N_PLAIN + 6)
    row = np.zeros((64, 64), np.float32)
    row[0, :32] = np.arange(-16, 16) * np.float32(127 / 16) / 2       # multiples of a half of the scale
    row[1, :32], row[2, 0], row[3, 5], row[4, 7] = 1e-30, 60000, -1e-5, 3e-8
    row[5] = np.linspace(-1, 1, 64)
    row[7, :16], row[8, :16], row[9, :16] = 1e-41, -3e-37, 1e-43      # scales whose inverse is not finite, or hardly
    row[6, ::2], row[6, 1::2] = 127, np.arange(32) + 0.5
    drawn['model.layers.0.self_attn.v_proj.weight'] = row[:32]
    make.save(SCRATCH / 'edges', config, drawn, llama3_files())
    whole, ours = convert(SCRATCH / 'edges'), convert(SCRATCH / 'edges', 'Q8_0')
    run(PROGRAMS / 'quantize', whole, SCRATCH / 'edges-theirs.gguf', 'Q8_0', '--pure')
    a, b = gguf_read.read(ours)[1], gguf_read.read(SCRATCH / 'edges-theirs.gguf')[1]
    assert all((a[name][1] == b[name][1]).all() for name in a if a[name][0] == b[name][0] == 8)
    assert a['blk.0.attn_v.weight'][0] == 8


def own_same_bytes():
    """The same folder gives the same file; and its parts are read piece by piece: a large matrix takes no more memory than a piece of it."""
    config, drawn = make.llama(6, N_PLAIN + 6)
    make.save(SCRATCH / 'again', config, drawn, llama3_files())
    first = convert(SCRATCH / 'again').read_bytes()
    assert convert(SCRATCH / 'again').read_bytes() == first
    from converter import gguf
    for shape in ((1 << 20, 64), (1, 1 << 20, 64), (4, 1 << 10, 1 << 12), (3, 1 << 24)):
        seen = 0
        for piece in gguf.pieces(np.broadcast_to(np.float32(1), shape)):
            assert piece.size <= max(gguf.PIECE, shape[-1]) and piece.shape[-1] == shape[-1]
            seen += piece.size
        assert seen == np.prod(shape)


# ---- vocabularies ----

def own_byte_level():
    config, drawn = make.llama(7, N_PLAIN + 6)
    at = {text: i for i, text in enumerate(make.byte_alphabet() + [a + b for a, b in make.MERGES])}
    wanted = [at[x] for x in ('hello', 'Ġworld', '!')]
    for name, lists in (('lists', True), ('texts', False)):
        files = llama3_files(pairs_as_lists=lists)
        files['generation_config.json'] = {'eos_token_id': [N_PLAIN + 1, N_PLAIN + 4, N_PLAIN + 5]}
        make.save(SCRATCH / name, config, drawn, files)
        model = convert(SCRATCH / name, 'F16')
        assert tokens(model, 'hello world!') == [N_PLAIN] + wanted
        assert tokens(model, 'hello world!<|eot_id|>', '--no-bos') == wanted + [N_PLAIN + 5]
        keys, _ = gguf_read.read(model)
        assert keys['tokenizer.ggml.bos_token_id'] == N_PLAIN and keys['tokenizer.ggml.eos_token_id'] == N_PLAIN + 5 and keys['tokenizer.ggml.eom_token_id'] == N_PLAIN + 4
        assert keys['tokenizer.ggml.add_bos_token'] is True and keys['tokenizer.ggml.pre'] == 'llama-bpe' and keys['tokenizer.chat_template'] == SETTINGS3['chat_template']
    # Templates: by name, and in files of their own, of which the last one counts.
    files['tokenizer_config.json'] = {**SETTINGS3, 'chat_template': [{'name': 'default', 'template': 'one'}, {'name': 'tool_use', 'template': 'two'}], 'add_bos_token': False}
    make.save(SCRATCH / 'texts', config, drawn, files)
    keys, _ = gguf_read.read(convert(SCRATCH / 'texts', 'F16'))
    assert (keys['tokenizer.chat_template'], keys['tokenizer.chat_template.tool_use'], keys['tokenizer.ggml.add_bos_token']) == ('one', 'two', False)
    files['chat_template.jinja'] = 'three\u00e9'.encode()
    make.save(SCRATCH / 'texts', config, drawn, files)
    assert gguf_read.read(convert(SCRATCH / 'texts', 'F16'))[0]['tokenizer.chat_template'] == 'three\u00e9'


def spm_json(pieces):
    """What a folder of Llama 2 has as tokenizer.json: pairs in the order of the scores of what they make."""
    score = {text: score for text, score, _ in pieces}
    merges = sorted(((-score[text], i, text[:i], text[i:]) for text, _, kind in pieces if kind == 1 for i in range(1, len(text)) if text[:i] in score and text[i:] in score))
    return {'added_tokens': [{'id': i, 'content': text, 'special': True} for i, (text, _, kind) in enumerate(pieces) if kind in (2, 3)],
            'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'Prepend', 'prepend': '▁'}, {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'}]},
            'pre_tokenizer': None, 'model': {'type': 'BPE', 'byte_fallback': True, 'unk_token': '<unk>', 'vocab': {text: i for i, (text, _, _) in enumerate(pieces)},
                                             'merges': [f'{a} {b}' for _, _, a, b in merges]}}


def own_pieces():
    """tokenizer.model, and the same as tokenizer.json."""
    n = len(make.PIECES)
    config, drawn = make.llama(8, n + 1)
    settings = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>', 'added_tokens_decoder': {str(n): {'content': '<extra>', 'special': False}}}
    at = {text: i for i, (text, _, _) in enumerate(make.PIECES)}
    wanted = [1] + [at[x] for x in ('▁hello', '▁world', '<0x21>')]
    for name, files in (('model', {'tokenizer.model': make.sentencepiece()}), ('json', {'tokenizer.json': spm_json(make.PIECES)}),
                        ('both', {'tokenizer.model': make.sentencepiece(), 'tokenizer.json': spm_json(make.PIECES)})):
        make.save(SCRATCH / f'pieces-{name}', config, drawn, {**files, 'tokenizer_config.json': settings})
        model = convert(SCRATCH / f'pieces-{name}', 'F16')
        assert tokens(model, 'hello world!') == wanted, (name, tokens(model, 'hello world!'))
        assert tokens(model, 'hello<extra>', '--no-bos') == [at['▁hello'], n]
        keys, _ = gguf_read.read(model)
        assert keys['tokenizer.ggml.model'] == 'llama' and keys['tokenizer.ggml.token_type'][:4] == [2, 3, 3, 6] and keys['tokenizer.ggml.token_type'][n] == 4
        assert (keys['tokenizer.ggml.bos_token_id'], keys['tokenizer.ggml.eos_token_id'], keys['tokenizer.ggml.unknown_token_id']) == (1, 2, 0)
        assert keys['tokenizer.ggml.add_space_prefix'] is True
    odd = make.PIECES + [(b'\xff\xfe', -99.0, 1)]
    config, drawn = make.llama(8, len(odd))
    make.save(SCRATCH / 'pieces-odd', config, drawn, {'tokenizer.model': make.sentencepiece(odd)})
    assert gguf_read.read(convert(SCRATCH / 'pieces-odd', 'F16'))[0]['tokenizer.ggml.tokens'][-1].encode('utf-8', 'surrogateescape') == b'\xff\xfe'


# ---- refusing ----

def refused(folder, *words, kind='F16'):
    """One line that holds the words, and no file."""
    try:
        CONVERTER.convert(str(folder), str(SCRATCH / 'refused.gguf'), kind)
        text = None
    except CONVERTER.Refused as error:
        text = str(error)
    assert text and '\n' not in text and all(word in text for word in words), (words, text)
    assert not list(SCRATCH.glob('refused*')), list(SCRATCH.glob('refused*'))


def changed(config, path, value):
    config = copy.deepcopy(config)
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return config


def own_refused_configurations():
    config, drawn = make.llama(9, N_PLAIN + 6)
    folder = SCRATCH / 'bad'
    for key, value, word in (('model_type', 'qwen2', 'qwen2'), ('model_type', None, 'model_type'), ('model_type', ['llama'], 'model_type'), ('hidden_size', '64', 'hidden_size'),
                             ('hidden_size', 128, 'shape'), ('num_hidden_layers', 4, 'missing'), ('num_hidden_layers', 2, 'layers.2'), ('num_key_value_heads', 3, 'num_key_value_heads'),
                             ('hidden_act', 'gelu', 'hidden_act'), ('vocab_size', N_PLAIN, 'shape'), ('rope_scaling', {'type': 'dynamic', 'factor': 2.0}, 'dynamic'),
                             ('rope_scaling', {'type': 'yarn', 'factor': 2.0, 'beta_fast': 16}, 'beta_fast'), ('rope_scaling', [1], 'rope_scaling'), ('rms_norm_eps', -1, 'rms_norm_eps'),
                             ('quantization_config', {'quant_method': 'gptq'}, 'quantization_config'), ('num_attention_heads', 0, 'num_attention_heads'),
                             ('eos_token_id', 99999, 'eos_token_id'), ('tie_word_embeddings', 'yes', 'tie_word_embeddings')):
        make.save(folder, {**config, key: value}, drawn, llama3_files())
        refused(folder, 'config.json' if word not in ('shape', 'missing', 'layers.2') else 'bad', word)
    for key in ('num_hidden_layers', 'head_dim', 'num_attention_heads', 'vocab_size'):
        make.save(folder, {**config, key: (1 << 31) - 1}, drawn, llama3_files())
        refused(folder, 'bad')
    for content, word in ((b'', 'JSON'), (b'[]', 'object'), (b'{"a": 1, "a": 2}', 'twice'), (b'{"hidden_size": NaN}', 'NaN'), (b'\xff', 'JSON'), (b'[' * 100000, 'JSON'), (b'1' * 5000, 'JSON')):
        (folder / 'config.json').write_bytes(content)
        refused(folder, 'config.json', word)
    make.save(folder, {**config, 'tie_word_embeddings': True}, drawn, llama3_files())
    refused(folder, 'lm_head', 'tie_word_embeddings')
    refused(SCRATCH / 'nowhere', 'nowhere')
    (folder / 'config.json').unlink()
    refused(folder, 'config.json')
    n, files = mllama_files()
    config, drawn = make.mllama(22, n)
    for path, value, word in ((('image_token_index',), 5, 'image_token_index'), (('text_config', 'cross_attention_layers'), [3, 1], 'cross_attention_layers'),
                              (('text_config', 'cross_attention_layers'), [9], 'cross_attention_layers'), (('vision_config', 'supported_aspect_ratios'), [[1, 1]], 'supported_aspect_ratios'),
                              (('vision_config', 'hidden_act'), 'quick_gelu', 'hidden_act'), (('vision_config', 'vision_output_dim'), 64, 'vision_output_dim'), (('vision_config',), 3, 'vision_config')):
        make.save(folder, changed(config, path, value), drawn, files)
        refused(folder, 'config.json', word)
    config, drawn = make.llama4(41, N_PLAIN + 12, 3)
    files = {'tokenizer.json': make.byte_level(LLAMA4_TOKENS, make.LLAMA4_PATTERN), 'tokenizer_config.json': SETTINGS4}
    for key, value in (('no_rope_layers', [1] * 8), ('moe_layers', [0]), ('floor_scale', 4096), ('attn_scale', 0.2), ('attn_temperature_tuning', False), ('layer_types', ['full_attention'] * 8)):
        make.save(folder, changed(config, ('text_config', key), value), drawn, files)
        refused(folder, 'text_config', key)


def own_refused_tensors():
    """Values that do not fit, dtypes that are not read, tensors too many, too few or of another shape."""
    config, drawn = make.llama(10, N_PLAIN + 6)
    folder = SCRATCH / 'bad'

    def attempt(changes, *words, kind='F16', **storing):
        make.save(folder, config, {name: x for name, x in {**drawn, **changes}.items() if x is not None}, llama3_files(), **storing)
        refused(folder, *words, kind=kind)
    name = 'model.layers.1.mlp.up_proj.weight'
    attempt({name: None}, 'bad', 'layers.1.mlp.up_proj.weight', 'missing')
    attempt({name: drawn[name].T}, 'model.safetensors', name, 'shape')
    attempt({'model.layers.1.mlp.extra.weight': drawn[name]}, 'model.layers.1.mlp.extra.weight')
    attempt({'layers.1.mlp.up_proj.weight': drawn[name]}, 'up_proj', 'another name')
    for value, kinds in ((np.inf, ('F32', 'F16', 'Q8_0')), (np.nan, ('F32', 'Q8_0')), (1e6, ('F16',)), (3e7, ('Q8_0',)), (3.4e38, ('BF16',))):
        broken = drawn[name].copy()
        broken[3, 3] = value
        for kind in kinds:
            attempt({name: broken}, 'model.safetensors', name, kind=kind)
    data = bytearray((folder / 'model.safetensors').read_bytes())
    make.save(folder, config, drawn, llama3_files())
    data = (folder / 'model.safetensors').read_bytes().replace(b'"F32"', b'"U32"', 1)
    (folder / 'model.safetensors').write_bytes(data)
    refused(folder, 'model.safetensors', 'U32')


def own_refused_safetensors():
    """Headers that lie."""
    config, drawn = make.llama(11, N_PLAIN + 6)
    folder = SCRATCH / 'bad'
    make.save(folder, config, drawn, llama3_files())
    path = folder / 'model.safetensors'
    good = path.read_bytes()
    n, = struct.unpack('<Q', good[:8])
    rows, data = json.loads(good[8:8 + n]), good[8 + n:]

    def attempt(content, *words):
        path.write_bytes(content)
        refused(folder, 'model.safetensors', *words)

    def with_rows(*changes):
        new = copy.deepcopy(rows)
        for key, value in changes:
            new['model.norm.weight'][key] = value
        text = json.dumps(new).encode()
        return struct.pack('<Q', len(text)) + text + data
    for length in (1 << 63, (1 << 64) - 1, len(good), n + len(data) + 1, 100 << 20):
        attempt(struct.pack('<Q', length) + good[8:], 'header')
    for cut in (0, 7, 8, 100, 8 + n, len(good) - 1):
        attempt(good[:cut])
    attempt(good + b'\0', 'no tensor')
    begin, end = rows['model.norm.weight']['data_offsets']
    for span in ([0, end - begin], [begin + 4, end + 4], [begin, end + 4], [end, begin], [-4, 252], [1 << 70, (1 << 70) + 256], [begin], 'x', [begin + 0.0, end], [True, 257], None):
        attempt(with_rows(('data_offsets', span)), 'model.norm.weight' if span not in ([0, end - begin], [begin + 4, end + 4]) else 'tensor')
    for shape in ([63], [64, 2], [-64], [1 << 62, 1 << 62], [1] * 99, 'x', [64.0], [True], {'a': 1}):
        attempt(with_rows(('shape', shape)), 'model.norm.weight')
    for dtype in ('F33', 'f32', 'F64', 'F16', 7, None, ['F32']):
        attempt(with_rows(('dtype', dtype)), 'model.norm.weight')
    attempt(with_rows(('more', 1)), 'model.norm.weight')
    for text in (b'', b'[]', b'{', b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b'{"model.norm.weight": 1, "model.norm.weight": 2}', b'\xff\xfe', b'[' * 50000, b'null'):
        attempt(struct.pack('<Q', len(text)) + text + data)
    path.write_bytes(good)
    convert(folder)
    path.unlink()
    refused(folder, 'model.safetensors')
    make.save(folder, config, drawn, llama3_files(), n_shards=2)
    index = folder / 'model.safetensors.index.json'
    whole = json.loads(index.read_text())
    for value in ('../model.safetensors', '/etc/passwd', 'other.safetensors', 'config.json', 5, 'model-00002-of-00002.safetensors'):
        index.write_text(json.dumps(changed(whole, ('weight_map', next(iter(whole['weight_map']))), value)))
        refused(folder, 'bad')
    for value in ({}, [], None):
        index.write_text(json.dumps({'weight_map': value}))
        refused(folder, 'weight_map')
    for name in list(whole['weight_map'])[:1]:
        short = copy.deepcopy(whole)
        del short['weight_map'][name]
        index.write_text(json.dumps(short))
        refused(folder, name)


def own_refused_vocabularies():
    config, drawn = make.llama(12, N_PLAIN + 6)
    folder = SCRATCH / 'bad'

    def attempt(file, content, *words, settings=SETTINGS3):
        make.save(folder, config, drawn, {file: content, 'tokenizer_config.json': settings})
        refused(folder, *words)
        (folder / file).unlink()
    good = make.byte_level(LLAMA3_TOKENS)
    make.save(folder, config, drawn, {})
    for name in ('tokenizer.json', 'tokenizer.model'):
        (folder / name).unlink(missing_ok=True)
    refused(folder, 'tokenizer')
    for path, value, word in ((('model', 'type'), 'Unigram', 'BPE'), (('model', 'vocab'), {}, 'BPE'), (('model', 'vocab', 'a'), 5, 'one id'), (('model', 'vocab', 'zz'), -1, 'id'),
                              (('model', 'vocab', 'zz'), 1 << 40, 'id'), (('model', 'vocab', 'zz'), 'x', 'id'), (('model', 'merges'), ['q x'], 'merges'), (('model', 'merges'), ['he'], 'merges'),
                              (('model', 'merges'), [['h', 'e', 'l']], 'merges'), (('model', 'merges'), 7, 'merges'), (('normalizer',), {'type': 'NFC'}, 'normalizer'),
                              (('pre_tokenizer',), None, 'pre_tokenizer'), (('pre_tokenizer', 'pretokenizers', 0, 'pattern'), {'Regex': 'x+'}, 'x+'),
                              (('pre_tokenizer', 'pretokenizers', 1, 'use_regex'), True, 'pre_tokenizer'), (('added_tokens', 0, 'id'), 3, 'added token'),
                              (('added_tokens', 0, 'id'), N_PLAIN + 900, 'rows'), (('added_tokens', 0, 'content'), 3, 'token')):
        attempt('tokenizer.json', changed(good, path, value), 'tokenizer', word)
    unreachable = make.byte_level(LLAMA3_TOKENS)
    unreachable['model']['vocab'] = {('abc' if text == 'ld' else text): i for text, i in unreachable['model']['vocab'].items()}
    unreachable['model']['merges'] = [pair for pair in unreachable['model']['merges'] if 'ld' not in (pair[1], pair[0] + pair[1])]
    attempt('tokenizer.json', unreachable, 'ignore_merges', 'abc')
    attempt('tokenizer.json', b'{"model": ' + b'{"a":' * 9999, 'JSON')
    pieces = make.sentencepiece()
    for content, word in ((b'', 'SentencePiece'), (pieces[:-3], 'SentencePiece'), (b'\xff' * 40, 'SentencePiece'), (b'IQ== 0\nIg== 1\n', 'SentencePiece'), (pieces + b'\x0a\xff\xff\xff\xff\x7f', 'SentencePiece'),
                          (make.sentencepiece(model_type=1), 'model_type'), (make.sentencepiece(normalizer=((2, b'x'), (4, 0))), 'normalizer'), (make.sentencepiece(normalizer=()), 'normalizer'),
                          (make.sentencepiece([('a', 0.0, 9)]), 'kind'), (make.sentencepiece([('a', float('nan'), 1)]), 'score')):
        attempt('tokenizer.model', content, 'tokenizer.model', word, settings={})


def damaged(data, end, random):
    """The same bytes with something wrong in the first `end` of them: a value, some bytes, or the length."""
    data, way = bytearray(data), random.random()
    values = list(re.finditer(rb'(?<=[:,\[] )(-?\d[\d.e+-]*|"[^"]*"|true|false|null)', data[:end]))
    if way < 0.5 and values:
        place = values[int(random.integers(len(values)))]
        data[place.start():place.end()] = ODD_VALUES[int(random.integers(len(ODD_VALUES)))]
    elif way < 0.9:
        for _ in range(1 + int(random.integers(4))):
            data[int(random.integers(end))] = int(random.integers(256))
    else:
        del data[int(random.integers(end)):]
    return bytes(data)


ODD_VALUES = (b'null', b'-1', b'0', b'1e99', b'[]', b'{}', b'"x"', b'true', b'99999999999999999999', b'[[]]', b'""', b'0.5')


def own_damaged():
    """Whatever a file holds, it is converted or refused."""
    from converter import checkpoint, families, vocabulary
    random, counts = np.random.default_rng(77), {'read': 0, 'refused': 0}
    n, files = mllama_files()
    folders = {'pictures': make.mllama(1, n) + (files, 1), 'pieces': make.llama(2, len(make.PIECES)) + ({'tokenizer.model': make.sentencepiece()}, 1),
               'pairs': make.llama(2, len(make.PIECES)) + ({'tokenizer.json': spm_json(make.PIECES), 'generation_config.json': {'eos_token_id': [2]}}, 2),
               'experts': make.llama4(3, 288, 278) + ({'tokenizer.json': make.byte_level(LLAMA4_TOKENS, make.LLAMA4_PATTERN), 'tokenizer_config.json': SETTINGS4}, 1)}
    for name, (config, drawn, others, n_shards) in folders.items():
        folder = SCRATCH / f'damaged-{name}'
        make.save(folder, config, drawn, others, n_shards=n_shards)
        paths = sorted(folder.iterdir())
        for i in range(40 * len(paths)):
            path = paths[i % len(paths)]
            whole = path.read_bytes()
            end = 8 + struct.unpack('<Q', whole[:8])[0] if path.suffix == '.safetensors' else len(whole)
            path.write_bytes(damaged(whole, end, random))
            try:
                there = checkpoint.Checkpoint(str(folder))
                plan, n_tokens = families.plan_of(there, 'F16')
                vocabulary.load(there, n_tokens).keys()
                counts['read'] += 1
            except checkpoint.Refused:
                counts['refused'] += 1
            path.write_bytes(whole)
    print('   ', counts)
    assert min(counts.values()) > 20


def own_usage():
    assert b'Hugging Face' in run(sys.executable, SOURCE / 'convert.py', '--help').stdout
    run(sys.executable, SOURCE / 'convert.py', code=2)
    run(sys.executable, SOURCE / 'convert.py', SCRATCH, SCRATCH / 'x.gguf', '--type', 'Q4_K', code=2)
    config, drawn = make.llama(13, N_PLAIN + 6)
    make.save(SCRATCH / 'usage', config, drawn, llama3_files())
    done = run(sys.executable, SOURCE / 'convert.py', SCRATCH / 'usage', SCRATCH / 'no' / 'such.gguf', code=1)
    assert done.stderr.startswith(b'convert.py: ') and b'such.gguf' in done.stderr and done.stderr.count(b'\n') == 1 and not done.stdout
    old = SCRATCH / 'refused.gguf'
    old.write_bytes(b'old')
    (SCRATCH / 'usage' / 'tokenizer.json').unlink()
    run(sys.executable, SOURCE / 'convert.py', SCRATCH / 'usage', old, code=1)
    assert old.read_bytes() == b'old'
    old.unlink()


# ---- published vocabularies ----

def vectors(name):
    """(text, ids) of the reference: texts between separating lines, ids one line each."""
    texts = (pathlib.Path(FIXTURES) / 'vocab' / f'vectors-{name}.inp').read_text(encoding='utf-8').split('\n__ggml_vocab_test__\n')
    lines = (pathlib.Path(FIXTURES) / 'vocab' / f'vectors-{name}.out').read_text().splitlines()
    assert len(texts) >= len(lines) > 30
    return [(text, [int(word) for word in line.split()]) for text, line in zip(texts, lines)]


def narrow(n_vocab):
    """A model that is next to nothing but its vocabulary."""
    return make.llama(14, n_vocab, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=True)


def vocabulary(name):
    return gguf_read.read(f'{FIXTURES}/vocab/vocab-{name}.gguf')[0]


def fixtures_byte_level():
    """Llama 3's and Llama 4's vocabularies as tokenizer.json become the keys that they were made of, and give the published ids."""
    for name, pattern in (('llama3', make.LLAMA3_PATTERN), ('llama4', make.LLAMA4_PATTERN)):
        old = vocabulary(name)
        texts, kinds = old['tokenizer.ggml.tokens'], old['tokenizer.ggml.token_type']
        config, drawn = narrow(len(texts))
        plain = [i for i, kind in enumerate(kinds) if kind == 1]
        tokenizer = make.byte_level(['<|begin_of_text|>'], pattern, ignore_merges=name == 'llama3')
        tokenizer['added_tokens'] = [{'id': i, 'content': text, 'special': True} for i, text in enumerate(texts) if kinds[i] != 1]
        tokenizer['model'].update(vocab={texts[i]: i for i in plain}, merges=[line.split(' ') for line in old['tokenizer.ggml.merges']])
        make.save(SCRATCH / name, config, drawn, {'tokenizer.json': tokenizer, 'tokenizer_config.json': SETTINGS3 if name == 'llama3' else SETTINGS4})
        model = convert(SCRATCH / name, 'F16')
        new, _ = gguf_read.read(model)
        for key in ('tokens', 'merges', 'token_type', 'pre', 'model', 'bos_token_id', 'eos_token_id', 'add_bos_token'):
            assert new[f'tokenizer.ggml.{key}'] == old[f'tokenizer.ggml.{key}'], (name, key)
        if name == 'llama3':
            for text, ids in vectors('llama3'):
                assert tokens(model, text, '--no-bos', '--no-special') == ids, text


def fixtures_pieces():
    """Llama 2's as tokenizer.model, and as tokenizer.json with pairs instead of scores."""
    old = vocabulary('llama-spm')
    pieces = list(zip(old['tokenizer.ggml.tokens'], old['tokenizer.ggml.scores'], old['tokenizer.ggml.token_type']))
    config, drawn = narrow(len(pieces))
    for name, files in (('spm-model', {'tokenizer.model': make.sentencepiece(pieces)}), ('spm-json', {'tokenizer.json': spm_json(pieces)})):
        make.save(SCRATCH / name, config, drawn, {**files, 'tokenizer_config.json': {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>'}})
        model = convert(SCRATCH / name, 'F16')
        new, _ = gguf_read.read(model)
        for key in ('tokens', 'token_type', 'bos_token_id', 'eos_token_id', 'unknown_token_id', 'add_bos_token') + (('scores',) if name == 'spm-model' else ()):
            assert new[f'tokenizer.ggml.{key}'] == old[f'tokenizer.ggml.{key}'], (name, key)
        for text, ids in vectors('llama-spm'):
            assert tokens(model, text, '--no-bos', '--no-special') == ids, (name, text)


def main(which, source, programs):
    global SOURCE, PROGRAMS, CONVERTER
    SOURCE, PROGRAMS = pathlib.Path(source), pathlib.Path(programs)
    sys.path.insert(0, source)
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location('converting', SOURCE / 'convert.py')
    CONVERTER = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(CONVERTER)
    return named_tests.run(globals(), which)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
