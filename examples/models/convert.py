#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a GGUF file of a folder in Hugging Face's format: config.json, tensors in safetensors files, tokenizer.json or tokenizer.model.

Llama 1 to 3.3, Mistral and Mixtral become architecture `llama`, Llama 3.2 Vision `mllama` (one file, cross-attention as stored), Llama 4 `llama4` (one file). Needs
Python 3 and numpy. Tensors are read piece by piece, so memory stays small whatever the model's size. See docs/models/convert.md.
"""
import argparse
import os
import sys

from converter import families, gguf, vocabulary
from converter.checkpoint import Checkpoint, Refused


def convert(folder, out, kind='F16', name=None, progress=lambda i, n, tensor: None):
    """Returns (architecture, number of tensors, bytes). Refused says what is wrong with the folder; then there is no file."""
    checkpoint = Checkpoint(folder)
    plan, n_tokens = families.plan_of(checkpoint, kind)
    words = vocabulary.load(checkpoint, n_tokens)
    if plan.architecture == 'mllama' and words.texts[-1] != '<|image|>':
        raise Refused(f'{words.where}: token {n_tokens - 1} is {words.texts[-1]!r}, not <|image|>')
    keys = [('general.architecture', gguf.STRING, plan.architecture), ('general.name', gguf.STRING, name or os.path.basename(os.path.abspath(folder))),
            ('general.file_type', gguf.U32, gguf.TYPES[kind][4]), ('general.quantization_version', gguf.U32, 2)] + plan.keys + words.keys()
    return plan.architecture, len(plan.tensors), gguf.write(out, keys, plan.tensors, progress)


def show(i, n, tensor):
    if sys.stderr.isatty():
        print(f'\r\033[K{i + 1}/{n} {tensor}', end='\r' if i + 1 < n else '\r\033[K', file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(prog='convert.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER', help='the folder of the model')
    parser.add_argument('out', metavar='OUT.gguf', help='the file to write; it appears when it is whole')
    parser.add_argument('--type', choices=list(gguf.TYPES), default='F16', help='type of matrices (F16); vectors, gates and routers stay F32')
    parser.add_argument('--name', help='name of the model in the file (the name of the folder)')
    options = parser.parse_args()
    try:
        architecture, n_tensors, n_bytes = convert(options.folder, options.out, options.type, options.name, show)
    except Refused as error:
        print(f'convert.py: {error}', file=sys.stderr)
        return 1
    print(f'{options.out}: {architecture}, {n_tensors} tensors, matrices in {options.type}, {n_bytes} bytes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
