#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzz target tokenizer: make_corpus_tokenizer.py FOLDER

Each text goes once to a vocabulary of scored pieces and once to every pre-tokenizer's; the vocabularies that a file brings along have
everything that merges and token kinds can do.
"""
import pathlib
import sys

TEXTS = {
    'empty': b'', 'words': b"Hello, the fox's 1234 jumps: it'LL go\r\n\r\n  on! ", 'spaces': b'   a  b\t\n \n  ', 'letters': b'HelloWorld aabbaAB abcabc xyxy',
    'scripts': 'Ä中中 \u0301e\u0301 ªAa ǅx \u0e01\u0e33 ٣٤٥6 ²½ \u3000\u0085 ſ\'ſ 😀'.encode(), 'marks': b'\xcc\x81' * 20 + b'A\xcc\x81a', 'symbols': b'//\r\n/!$+<=>^~|_.-x',
    'special': b'<|eot_id|> <u>u>u>u> <s>a</s>|<|end|>\n<unk> a', 'nul': b'a\0b\0\0', 'invalid': b'\xff\xfe\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe4\xb8 \xc3',
    'runs': b'a' * 100 + b' ' * 70 + b'7' * 40 + b'\n' * 20,
}
OWN = {
    'pieces': (10, b'2<unk>\n3<s>\n1a\n1b\n1ab\n1aa\n4 a\n\n', b'aab ba  a<s>'), 'nested': (10, b'2<unk>\n4a\n4aa\n4aaa\n3aaaa\n\n', b'aaaaaaa baa'),
    'pairs': (11, b'2?\n1a\n1b\n1ab\nma b\nmb ab\nmab ab\nmq q\n\n', b'ababab qq bab'), 'wrong_merge': (11, b'2?\n1a\nmab\n\n', b'a'), 'wrong_kind': (10, b'1?\n9a\n\n', b'a'),
    'bytes': (10, b'2?\n6<0x41>\n6<0xff>\n1A\n5x\n\n', b'A\xffx'), 'wrong_byte': (10, b'2?\n6<0xZZ>\n\n', b'A'), 'no_tokens': (10, b'\n', b'a'), 'same': (10, b'2?\n1a\n1a\n4?\n4?\n\n', b'a??'),
    'invalid': (11, b'2?\n1\xff\n1\xc4\n4\xc4\xa0\nm\xff \xff\n\n', b'\xff\xff \xc4\xa0'),
}


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {f'{name}_{choice}': bytes([choice]) + text for name, text in TEXTS.items() for choice in range(9)}
    files |= {f'own_{name}': bytes([choice]) + lines + text for name, (choice, lines, text) in OWN.items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    print(f'{len(files)} files')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
