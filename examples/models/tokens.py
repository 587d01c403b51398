# SPDX-License-Identifier: MIT
"""The tokenizer of the model of the box: byte-level BPE as in Llama 3 (same splitting, same chat tokens), with a small vocabulary learnt from the project's own texts.

Digits never merge, so numbers are read and written digit by digit. Texts are ASCII here; any other byte has its token too.
"""
import collections
import json
import re

# Llama 3's way to cut text, as files state it, and the same for ASCII in Python's words.
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CUT = re.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ('<|begin_of_text|>', '<|end_of_text|>', '<|finetune_right_pad_id|>', '<|start_header_id|>', '<|end_header_id|>', '<|eom_id|>', '<|eot_id|>', '<|python_tag|>')
IMAGE = '<|image|>'
CHAT_TEMPLATE = ("{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}{% if m['content'] is string %}{{ m['content'] }}"
                 "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}{{ '<|image|>' }}{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|eot_id|>' }}"
                 "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")


def byte_letters():
    """A printable letter for each byte: itself if it is printable in Latin-1, else the next free one from U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


LETTER = byte_letters()


def learn(texts, n):
    """The first n merges: always the most frequent pair, the earlier one in the alphabet at equal numbers."""
    words = collections.Counter(piece for text in texts for piece in CUT.findall(text))
    words = [[[LETTER[b] for b in word.encode()], count] for word, count in sorted(words.items()) if not word.isdigit()]
    merges = []
    while len(merges) < n:
        pairs = collections.Counter()
        for parts, count in words:
            for pair in zip(parts, parts[1:]):
                if not any(c.isdigit() for c in pair[0] + pair[1]):
                    pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word in words:
            word[0] = merge(word[0], best)
    return merges


def merge(parts, pair):
    out, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.rank = {pair: i for i, pair in enumerate(self.merges)}
        self.tokens = [LETTER[b] for b in range(256)] + [a + b for a, b in self.merges] + list(SPECIAL)
        self.id = {token: i for i, token in enumerate(self.tokens)}
        self.n_vocab = self.image = len(self.tokens)
        self.known = {}
        self.bytes_of = {letter: b for b, letter in LETTER.items()}

    def piece(self, piece):
        parts = [LETTER[b] for b in piece.encode()]
        while len(parts) > 1 and (best := min(zip(parts, parts[1:]), key=lambda pair: self.rank.get(pair, 1 << 30))) in self.rank:
            parts = merge(parts, best)
        return [self.id[part] for part in parts]

    def encode(self, text):
        ids = []
        for piece in CUT.findall(text):
            if piece not in self.known:
                self.known[piece] = self.piece(piece)
            ids += self.known[piece]
        return ids

    def decode(self, ids):
        return b''.join(bytes(self.bytes_of[c] for c in self.tokens[i]) if i < 256 + len(self.merges) else b'' for i in ids).decode(errors='replace')

    def head(self, role):
        return [self.id['<|start_header_id|>'], *self.encode(role), self.id['<|end_header_id|>'], *self.encode('\n\n')]

    def chat(self, turns, picture=False):
        """Ids of a conversation of (question, answer), and for each whether it belongs to an answer."""
        ids, mine = [self.id['<|begin_of_text|>']], [0]
        for i, (question, answer) in enumerate(turns):
            asked = [*self.head('user'), *([self.image] if picture and i == 0 else []), *self.encode(question), self.id['<|eot_id|>'], *self.head('assistant')]
            told = [*self.encode(answer), self.id['<|eot_id|>']]
            ids += asked + told
            mine += [0] * len(asked) + [1] * len(told)
        return ids, mine

    def to_json(self):
        """As Hugging Face's tokenizer.json."""
        added = [{'id': i, 'content': token, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True}
                 for i, token in enumerate([*self.tokens, IMAGE]) if i >= 256 + len(self.merges)]
        return {'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': added, 'normalizer': None,
                'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [
                    {'type': 'Split', 'pattern': {'Regex': SPLIT}, 'behavior': 'Isolated', 'invert': False},
                    {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': False}]},
                'post_processor': {'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': SPECIAL[0], 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}}],
                                   'pair': [{'Sequence': {'id': 'A', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': 1}}],
                                   'special_tokens': {SPECIAL[0]: {'id': SPECIAL[0], 'ids': [self.id[SPECIAL[0]]], 'tokens': [SPECIAL[0]]}}},
                'decoder': {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': True, 'use_regex': True},
                'model': {'type': 'BPE', 'dropout': None, 'unk_token': None, 'continuing_subword_prefix': None, 'end_of_word_suffix': None, 'fuse_unk': False, 'byte_fallback': False,
                          'ignore_merges': True, 'vocab': {token: i for i, token in enumerate(self.tokens) if i < 256 + len(self.merges)}, 'merges': [' '.join(pair) for pair in self.merges]}}


def from_json(path):
    merges = json.loads(path.read_text())['model']['merges']
    return Tokenizer([tuple(pair.split(' ')) if isinstance(pair, str) else tuple(pair) for pair in merges])


def learn_from_own_texts(n_vocab):
    import handbook
    import panels
    texts = ['user\n\n', 'assistant\n\n'] * 3000
    texts += [part for row in handbook.make_samples('train', 999, 12000) for part in row[:2]]
    for i in range(6000):
        rng = panels.stream('train', 999, i)
        content = [None, None, None, None]
        for place in rng.permutation(4)[:3]:
            which = int(rng.integers(len(panels.INSTRUMENTS)))
            content[place] = (which, int(rng.integers(panels.READINGS[panels.INSTRUMENTS[which][0]])))
        texts += panels.make_question(rng, content)[:2] + panels.describe(rng, content)[:2]
    return Tokenizer(learn(texts, n_vocab - 256 - len(SPECIAL)))
