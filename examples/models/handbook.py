#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The station handbook, and questions about its passages: handbook.py FILE.jsonl [--split test] [--seed 1] [-n 200], or handbook.py --text FILE.txt

procedures.txt holds every procedure as facts: `kind what = value; ...`. A passage tells the facts of a procedure in one of several wordings; a
question asks for one of them, and the answer is the value as it stands in the passage. Questions have values of their own, so that none can be known
by heart: numbers are drawn anew, other values change places with those of the same kind. The text has the values of procedures.txt.
"""
import argparse
import json
import pathlib
import re

import numpy as np

SPLITS = {'train': 1, 'validation': 2, 'test': 3}
MISSING = 'not in the passage'

# For each kind of fact: wordings of the sentence and of the question. {x}: what it is about, {v}: the value; {X}, {V}: the same with a capital letter.
WORDINGS = {
    'first': (('{X}, first {v}.', 'First of all, {v} {x}.', 'The first step {x}: {v}.'),
              ('What do we do first {x}?', 'What is the first step {x}?', '{X}, what comes first?', 'How do we begin {x}?')),
    'tool': (('Use {v} to {x}.', 'To {x}, take {v}.', '{V} serves to {x}.'),
             ('What do we use to {x}?', 'With what do we {x}?', 'What is needed to {x}?', 'What do I take to {x}?')),
    'wait': (('Wait {v} before {x}.', 'Before {x}, wait {v}.', 'Let {v} pass before {x}.'),
             ('How long do we wait before {x}?', 'How long is the wait before {x}?', 'Before {x}, how much time must pass?', 'What is the time to wait before {x}?')),
    'who': (('{V} will {x}.', 'Only {v} may {x}.', 'It is for {v} to {x}.'),
            ('Who will {x}?', 'Who may {x}?', 'Who has to {x}?', 'Whose task is it to {x}?')),
    'place': (('Look for {x} in {v}.', '{X} can be found in {v}.', 'In {v} you find {x}.'),
              ('Where can I find {x}?', 'Where do I look for {x}?', 'In which place can {x} be found?', 'Where did we put {x}?')),
    'wear': (('Wear {v} when {x}.', 'When {x}, put on {v}.', '{V} must be worn when {x}.'),
             ('What must be worn when {x}?', 'What do I wear when {x}?', 'What do we put on when {x}?', 'When {x}, what is to be worn?')),
    'limit': (('The limit for {x} is {v}.', 'Keep {x} below {v}.', '{X} must not exceed {v}.'),
              ('What is the limit for {x}?', 'How high may {x} be?', 'Which value must {x} not exceed?', 'What is the most allowed for {x}?')),
    'every': (('{X} every {v}.', 'Every {v}, {x}.', 'The rule is to {x} every {v}.'),
              ('How often do we {x}?', 'After how much time do we {x} again?', 'At what interval do we {x}?', 'How often must the crew {x}?')),
    'count': (('There must be {v} {x}.', 'The number of {x} is {v}.', 'We need {v} {x}.'),
              ('How many {x} must there be?', 'How many {x} are needed?', 'What is the number of {x}?', 'How many {x}?'))}


def read_procedures():
    """[title, [(kind, what, value)]] of every procedure."""
    procedures = []
    for line in (pathlib.Path(__file__).resolve().parent / 'procedures.txt').read_text().splitlines():
        title, facts = line.split(': ', 1)
        procedures.append((title, [(*head.split(' ', 1), value) for head, value in (fact.split(' = ') for fact in facts.split('; '))]))
    return procedures


PROCEDURES = read_procedures()
VALUES = {kind: sorted({value for _, facts in PROCEDURES for k, _, value in facts if k == kind}) for kind in WORDINGS}
UNITS = {'wait': ('seconds', 'minutes', 'hours'), 'every': ('hours', 'days', 'weeks', 'months')}


def pick(rng, things):
    return things[int(rng.integers(len(things)))]


def capital(text):
    return text[:1].upper() + text[1:]


def word(wording, what, value=''):
    return wording.format(x=what, v=value, X=capital(what), V=capital(value))


def new_number(rng, old):
    digits = old.group()
    if '.' in digits:
        before, after = digits.split('.')
        return f'{int(rng.integers(1, 10)) if len(before) == 1 else int(rng.integers(10, 100))}.{"".join(str(d) for d in rng.integers(0, 10, len(after)))}'
    n = len(digits) + int(rng.integers(0, 2)) if len(digits) < 3 else len(digits)
    return str(int(rng.integers(2 if n == 1 else 10 ** (n - 1), 10 ** n)))


def new_value(rng, kind, value):
    """Another value that would make sense there."""
    if kind not in ('limit', 'wait', 'every', 'count'):
        value = pick(rng, VALUES[kind])
    if kind in UNITS:
        value = f'{value.split()[0]} {pick(rng, UNITS[kind])}'
    return re.sub(r'\d+(\.\d+)?', lambda old: new_number(rng, old), value)


def passage(title, sentences):
    return f'{title}. {" ".join(sentences)}'


def make_passage(rng, number):
    """A procedure with new values: its text, and its facts (kind, what, value)."""
    title, facts = PROCEDURES[number]
    facts = [(kind, what, new_value(rng, kind, value)) for kind, what, value in facts]
    order = rng.permutation(len(facts))
    return passage(title, [word(pick(rng, WORDINGS[facts[i][0]][0]), *facts[i][1:]) for i in order]), facts


def make_question(rng, facts, missing=0.125, alike=0.5):
    """Question, answer and class; a share of `missing` asks for what the passage does not tell, of them a share of `alike` for a kind of fact that is in it."""
    if rng.random() < missing:
        told = {(kind, what) for kind, what, _ in facts}
        kinds = {kind for kind, _, _ in facts} if rng.random() < alike else WORDINGS
        kind, what = pick(rng, [(k, w) for _, others in PROCEDURES for k, w, _ in others if (k, w) not in told and k in kinds])
        return word(pick(rng, WORDINGS[kind][1]), what), MISSING, 'missing'
    kind, what, value = pick(rng, facts)
    return word(pick(rng, WORDINGS[kind][1]), what), value, kind


def stream(split, seed, index):
    return np.random.default_rng([SPLITS[split], 1000 + seed, index])


def make_samples(split, seed, n):
    for index in range(n):
        rng = stream(split, seed, index)
        text, facts = make_passage(rng, int(rng.integers(len(PROCEDURES))))
        question, answer, kind = make_question(rng, facts)
        yield f'{text}\n\n{question}', answer, kind


def handbook_text():
    """The handbook as one reads it: a paragraph for each procedure, its wordings chosen once and for all."""
    rng = np.random.default_rng(2026)
    return '\n\n'.join(passage(title, [word(pick(rng, WORDINGS[kind][0]), what, value) for kind, what, value in facts]) for title, facts in PROCEDURES) + '\n'


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument('file', type=pathlib.Path)
    options.add_argument('--text', action='store_true', help='write the handbook itself')
    options.add_argument('--split', choices=SPLITS, default='test')
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('-n', type=int, default=200)
    args = options.parse_args()
    if args.text:
        args.file.write_text(handbook_text())
        return
    with open(args.file, 'w') as file:
        for prompt, answer, kind in make_samples(args.split, args.seed, args.n):
            file.write(json.dumps({'prompt': prompt, 'answer': answer, 'class': kind}) + '\n')


if __name__ == '__main__':
    main()
