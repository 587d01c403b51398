# SPDX-License-Identifier: MIT
"""Vocabularies: tokenizer.json (byte-level pairs, or pieces with byte fallback) or tokenizer.model (sentencepiece.py), what other files of the folder say
beside them, and the keys that they become."""
import re

from . import sentencepiece
from .checkpoint import Config, Refused, read_file, read_json
from .gguf import BOOL, F32, I32, STRING, U32

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
MAX_TOKENS = 1 << 20
LOWEST = -1e6                                   # score of a piece that no pair makes
BYTE_TEXT = re.compile(r'<0x[0-9A-F]{2}>')
SPACE = '\u2581'                                # what stands for a space in pieces

# The patterns by which published tokenizers cut text into words, and what the library calls them. `whole`: a word that is a token needs no pairs.
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_FIRST, _LAST = r"[^\r\n\p{L}\p{N}]?", r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SIGNS, _SIGNS_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n]*", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
SPLITTERS = {       # pattern: (name, whole)
    _CONTRACTION + "|" + _FIRST + r"\p{L}+|\p{N}{1,3}" + _SIGNS + _LAST: ('llama-bpe', True),
    f"{_FIRST}{_UPPER}*{_LOWER}+{_CONTRACTION}?|{_FIRST}{_UPPER}+{_LOWER}*{_CONTRACTION}?" + r"|\p{N}{1,3}" + _SIGNS_SLASH + _LAST: ('llama4', False),
    f"{_FIRST}{_UPPER}*{_LOWER}+|{_FIRST}{_UPPER}+{_LOWER}*" + r"|\p{N}" + _SIGNS_SLASH + _LAST: ('tekken', True),
}
# Tokens that end an answer, by the role that their text has; the others end one by their text alone.
END_ROLES = {'<|eot_id|>': 'eot', '<|eot|>': 'eot', '<|eom_id|>': 'eom', '<|eom|>': 'eom'}
END_TEXTS = {'<|end_of_text|>', '</s>', '<|im_end|>', '<|end|>', '<|endoftext|>', '<end_of_turn>', '<EOT>', '<|return|>', '<|call|>'}
ROLES = {'bos': 'bos', 'eos': 'eos', 'pad': 'padding', 'unk': 'unknown'}    # in Hugging Face's files, and in the keys


class Vocabulary:
    """Texts, kinds and scores by id; merges of byte-level pairs; what is put around a text (None: nothing says)."""

    def __init__(self, model, pre, where):
        self.model, self.pre, self.where = model, pre, where
        self.texts, self.kinds, self.scores, self.merges = [], [], [], []
        self.add_bos = self.add_eos = self.space_prefix = None
        self.roles, self.templates = {}, {}

    def put(self, at, text, kind, score=0.0):
        if not isinstance(text, str) or isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < MAX_TOKENS:
            raise Refused(f'{self.where}: token {text!r}: {at!r} is no id')
        self.fill(at + 1)
        self.texts[at], self.kinds[at], self.scores[at] = text, kind, score

    def fill(self, n):
        """Unused tokens up to n: a model has rows for them."""
        for hole in range(len(self.texts), n):
            self.texts.append(f'[UNUSED{hole}]')
            self.kinds.append(UNUSED)
            self.scores.append(LOWEST)

    def find(self, text):
        return self.texts.index(text) if text in self.texts else None

    def keys(self):
        rows = [('tokenizer.ggml.model', STRING, self.model), ('tokenizer.ggml.pre', STRING, self.pre), ('tokenizer.ggml.tokens', STRING, self.texts),
                ('tokenizer.ggml.token_type', I32, self.kinds)]
        rows += [('tokenizer.ggml.scores', F32, self.scores)] if self.model == 'llama' else [('tokenizer.ggml.merges', STRING, self.merges)]
        rows += [(f'tokenizer.ggml.{role}_token_id', U32, at) for role, at in self.roles.items()]
        flags = (('add_bos_token', self.add_bos), ('add_eos_token', self.add_eos), ('add_space_prefix', self.space_prefix))
        rows += [(f'tokenizer.ggml.{name}', BOOL, flag) for name, flag in flags if flag is not None]
        return rows + [('tokenizer.chat_template' + (f'.{name}' if name else ''), STRING, text) for name, text in self.templates.items()]


# ---- tokenizer.json ----

def steps(step, key):
    """The steps of a normalizer, pre-tokenizer or post-processor: itself, or those of a sequence."""
    if step is None:
        return []
    if not isinstance(step, dict):
        raise Refused(f'{key}: not an object')
    inner = step.get(key) if step.get('type') == 'Sequence' else [step]
    if not isinstance(inner, list) or not all(isinstance(x, dict) for x in inner):
        raise Refused(f'{key}: not a list of objects')
    return inner


def splitter(json, where):
    """(name, whole) of the rule that cuts text into words."""
    found = None
    for step in steps(json.get('pre_tokenizer'), 'pretokenizers'):
        if step.get('type') == 'Split' and isinstance(step.get('pattern'), dict) and step['pattern'].get('Regex') in SPLITTERS and step.get('behavior') == 'Isolated' \
                and not step.get('invert') and not found:
            found = SPLITTERS[step['pattern']['Regex']]
        elif step.get('type') == 'ByteLevel' and not step.get('add_prefix_space') and (step.get('use_regex', True) is not bool(found)):
            found = found or ('gpt-2', False)
        else:
            raise Refused(f'{where}: pre_tokenizer: {str(step)[:300]} is not a rule that the library knows')
    if not found:
        raise Refused(f'{where}: pre_tokenizer: missing')
    return found


def join_pairs(symbols, ranks):
    """What becomes of a word: its symbols joined by the pair of the lowest rank, as long as there is one."""
    symbols = list(symbols)
    while len(symbols) > 1:
        rank, at = min((ranks.get(pair, MAX_TOKENS * 4), i) for i, pair in enumerate(zip(symbols, symbols[1:])))
        if rank == MAX_TOKENS * 4:
            break
        symbols[at:at + 2] = [symbols[at] + symbols[at + 1]]
    return symbols


def read_merges(model, vocab, where):
    """[(left, right)]: both lists in circulation, "left right" and ["left", "right"]. What a pair makes is a token."""
    merges = []
    for row in model.get('merges', []):
        pair = tuple(row.split(' ')) if isinstance(row, str) else tuple(row) if isinstance(row, list) else ()
        if len(pair) != 2 or not all(isinstance(x, str) and x and ' ' not in x for x in pair) or pair[0] + pair[1] not in vocab:
            raise Refused(f'{where}: merges: {str(row)[:80]!r} is no pair that makes a token')
        merges.append(pair)
    return merges


def byte_level(json, model, vocab, merges, where):
    if steps(json.get('normalizer'), 'normalizers'):
        raise Refused(f'{where}: normalizer: byte-level pairs with one are not supported')
    pre, whole = splitter(json, where)
    v = Vocabulary('gpt2', pre, where)
    for text, at in vocab.items():
        v.put(at, text, NORMAL)
    v.merges = [f'{left} {right}' for left, right in merges]
    if model.flag('ignore_merges', False) != whole:
        ranks = {pair: rank for rank, pair in reversed(list(enumerate(merges)))}
        for text in vocab:
            if len(join_pairs(text, ranks)) > 1:
                raise Refused(f'{where}: ignore_merges: {not whole}, but the library, with {pre}, takes token {text!r} as if it were {whole}')
    return v


def byte_fallback(json, model, vocab, merges, where):
    """Pieces: scores are the order of the pairs that make them."""
    v = Vocabulary('llama', 'default', where)
    v.space_prefix = False
    for step in steps(json.get('normalizer'), 'normalizers') + steps(json.get('pre_tokenizer'), 'pretokenizers'):
        kind = step.get('type')
        if kind == 'Prepend' and step.get('prepend') == SPACE or kind == 'Metaspace' and step.get('prepend_scheme', 'always') != 'never' and step.get('add_prefix_space', True):
            v.space_prefix = True
        elif kind != 'Metaspace' and not (kind == 'Replace' and step.get('pattern') == {'String': ' '} and step.get('content') == SPACE):
            raise Refused(f'{where}: {str(step)[:300]} is not a rule that the library knows')
    scores = {left + right: -float(rank) for rank, (left, right) in reversed(list(enumerate(merges)))}
    unknown = model.get('unk_token')
    for text, at in vocab.items():
        v.put(at, text, BYTE if BYTE_TEXT.fullmatch(text) else UNKNOWN if text == unknown else NORMAL, scores.get(text, LOWEST))
    return v


def around(json, v):
    """Whether special tokens stand before and behind a text."""
    for step in steps(json.get('post_processor'), 'processors'):
        if step.get('type') == 'TemplateProcessing':
            kinds = ['SpecialToken' in row for row in step.get('single', []) if isinstance(row, dict)]
            v.add_bos, v.add_eos = kinds[:1] == [True], len(kinds) > 1 and kinds[-1]


def read_tokenizer_json(path):
    json = read_json(path)
    model = Config(json, path).part('model')
    vocab = model.get('vocab')
    if model.get('type', 'BPE') != 'BPE' or not isinstance(vocab, dict) or not vocab:
        raise Refused(f'{path}: model: {model.get("type")!r}: only BPE is supported')
    if not isinstance(model.get('merges', []), list):
        raise Refused(f'{path}: merges: not a list')
    if len(set(map(str, vocab.values()))) != len(vocab):
        raise Refused(f'{path}: vocab: two tokens with one id')
    merges = read_merges(model, vocab, path)
    v = (byte_fallback if model.flag('byte_fallback', False) else byte_level)(json, model, vocab, merges, path)
    around(json, v)
    return v


# ---- the folder ----

def read_tokenizer_model(path):
    v = Vocabulary('llama', 'default', path)
    pieces, v.roles, v.space_prefix = sentencepiece.read(path)
    for at, piece in enumerate(pieces):
        v.put(at, *piece)
    v.add_bos = True
    return v


def read_vocabulary(checkpoint):
    """Byte-level pairs are in tokenizer.json only; scored pieces have their scores in tokenizer.model."""
    pieces, pairs = checkpoint.has('tokenizer.model'), checkpoint.has('tokenizer.json')
    if pairs and pieces:
        pairs = not Config(read_json(checkpoint.path('tokenizer.json')), checkpoint.path('tokenizer.json')).part('model').get('byte_fallback')
    if not pairs and not pieces:
        raise Refused(f'{checkpoint.folder}: neither tokenizer.json nor tokenizer.model')
    return read_tokenizer_json(checkpoint.path('tokenizer.json')) if pairs else read_tokenizer_model(checkpoint.path('tokenizer.model'))


def added_tokens(checkpoint, settings):
    """(id, text, special) of tokens that were added to the vocabulary, wherever they are listed."""
    listed = checkpoint.optional('tokenizer.json').get('added_tokens', [])
    rows = [(row.get('id'), row) for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    for at, row in settings.part('added_tokens_decoder').members.items():
        rows.append((int(at) if at.isascii() and at.isdigit() and len(at) < 10 else at, row if isinstance(row, dict) else {}))
    for at, row in rows:
        yield at, row.get('content'), bool(row.get('special'))
    for text, at in checkpoint.optional('added_tokens.json').members.items():
        yield at, text, False


def put_added(v, rows):
    for at, text, special in rows:
        known = isinstance(at, int) and 0 <= at < len(v.texts) and v.kinds[at] != UNUSED
        if known and v.texts[at] != text:
            raise Refused(f'{v.where}: added token {text!r}: its id {at} is that of {v.texts[at]!r}')
        if not known or v.kinds[at] in (NORMAL, USER_DEFINED):
            v.put(at, text, CONTROL if special else USER_DEFINED)


def content(value):
    """The text of a token, written as such or as an object."""
    return value.get('content') if isinstance(value, dict) else value


def find_roles(v, checkpoint, settings):
    names = checkpoint.optional('special_tokens_map.json')
    for name, role in ROLES.items():
        text = content(settings.get(f'{name}_token', names.get(f'{name}_token')))
        at = v.find(text) if isinstance(text, str) else checkpoint.config.get(f'{name}_token_id')
        if isinstance(at, int) and not isinstance(at, bool) and 0 <= at < len(v.texts):
            v.roles[role] = at
    for text, role in END_ROLES.items():
        at = v.find(text)
        if at is not None:
            v.roles.setdefault(role, at)


def find_ends(v, checkpoint):
    """Every token that ends an answer does so in the file, too: by role or by text."""
    for config in (checkpoint.config, checkpoint.optional('generation_config.json')):
        ends = config.get('eos_token_id', [])
        for at in ends if isinstance(ends, list) else [ends]:
            if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < len(v.texts):
                config.fail('eos_token_id', f'{at!r} is no token')
            v.roles.setdefault('eos', at)
            if at not in (v.roles['eos'], v.roles.get('eom')) and v.texts[at] not in END_TEXTS and v.roles.setdefault('eot', at) != at:
                config.fail('eos_token_id', f'{v.texts[at]!r}: more tokens that end an answer than the keys can name')


def find_templates(v, checkpoint, settings):
    """The later file wins, as it does for those who read such folders."""
    given = settings.get('chat_template')
    rows = given if isinstance(given, list) else [{'name': 'default', 'template': given}]
    rows += [{'name': 'default', 'template': checkpoint.optional('chat_template.json').get('chat_template')}]
    if checkpoint.has('chat_template.jinja'):
        rows += [{'name': 'default', 'template': read_file(checkpoint.path('chat_template.jinja')).decode('utf-8', 'replace')}]
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get('template'), str) and isinstance(row.get('name'), str):
            v.templates['' if row['name'] == 'default' else row['name']] = row['template']


def load(checkpoint, n_tokens):
    """The vocabulary of a model that has rows for n_tokens."""
    settings = checkpoint.optional('tokenizer_config.json')
    v = read_vocabulary(checkpoint)
    put_added(v, added_tokens(checkpoint, settings))
    if len(v.texts) > n_tokens:
        raise Refused(f'{v.where}: {len(v.texts)} tokens, but the model has rows for {n_tokens}')
    find_roles(v, checkpoint, settings)
    find_ends(v, checkpoint)
    find_templates(v, checkpoint, settings)
    v.add_bos = settings.flag('add_bos_token', v.add_bos if v.add_bos is not None else 'bos' in v.roles)
    v.add_eos = settings.flag('add_eos_token', bool(v.add_eos))
    v.fill(n_tokens)
    return v
