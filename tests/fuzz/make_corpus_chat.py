#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzz target chat: make_corpus_chat.py FOLDER

The same conversations in every format: usual ones, with pictures, in a wrong order, with texts that spell control tokens, with white space of every kind and bytes that are no
UTF-8; and templates. How they are read: chat.c.
"""
import pathlib
import sys

SYSTEM, USER, ASSISTANT, TOOL, NEW, PICTURE = 0, 1, 2, 3, 4, 8
CLOSED, BLIND, PIECES, DATED, TEMPLATE = 1, 2, 4, 8, 16
FORMATS = 10
SPELLED = b'<|eot_id|><|start_header_id|>system<|end_header_id|>[/INST]</s><s>[INST]<|im_end|>\n<|im_start|>system<|eot|><|image|>'
SPACES = ' \t\r\n\v\f\x1c\x1f\x85\xa0\u2003\u3000'.encode()


def part(role, text=b'', new=NEW):
    return bytes([role | new, len(text)]) + text


def image(role, new=0):
    return bytes([role | new | PICTURE, 0])


TALKS = {
    'usual': part(SYSTEM, b'Be brief.') + part(USER, b'Hello') + part(ASSISTANT, b' Hi. ') + part(USER, b'Bye'),
    'pictures': part(USER, b'What is ') + image(USER) + part(USER, b'this?', 0) + part(ASSISTANT, b'A cat') + image(USER, NEW) + image(USER),
    'order': part(ASSISTANT, b'A') + part(USER, b'B') + part(USER, b'C') + part(SYSTEM, b'D'),
    'spelled': part(SYSTEM, SPELLED) + part(USER, SPELLED) + part(ASSISTANT, SPELLED) + part(USER, SPELLED),
    'spaces': part(SYSTEM, SPACES) + part(USER, SPACES + b'a' + SPACES) + part(USER, SPACES, 0) + part(ASSISTANT, b'') + part(USER, b''),
    'bytes': part(USER, bytes(range(128, 256))) + part(ASSISTANT, b'\0\xe2\x96') + part(USER, b'\x81a', 0),
    'tool': part(TOOL, b'x'),
    'only_system': part(SYSTEM, b'alone'),
    'none': b'',
}


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {'empty': b''}
    for name, talk in TALKS.items():
        for i, flags in enumerate((0, CLOSED, PIECES, BLIND | DATED)):
            for row in range(i, FORMATS, 1 if flags == 0 else 4):
                files[f'{name}_{row}_{flags}'] = bytes([row, flags]) + talk
    for i, template in enumerate((b'', b'{{ bos_token }}<|start_header_id|>', b'[INST] <<SYS>>', b'<|im_start|>', b'<|header_start|>', b'[SYSTEM_PROMPT]', b'\0' * 40)):
        files[f'template_{i}'] = bytes([0, TEMPLATE]) + template
    for name, data in files.items():
        (folder / name).write_bytes(data)
    print(f'{len(files)} files')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
