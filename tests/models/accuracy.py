#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the model in the tree answers: accuracy.py SOURCE EXAMPLES [--renew]

SOURCE is examples/models, EXAMPLES the folder of the programs. Questions that the model was never trained on are made anew by panels.py and handbook.py, put through
`describe`, and counted where the answer is exact. The figures must be those of the card, panel.md, whose rows bear the names that are printed here; so neither a
wrong kernel nor a wrong card goes unnoticed. golden.json holds whole outputs; --renew writes it.
"""
import argparse
import hashlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MARGIN = 1.5        # points between the card and a run: numbers are drawn by numpy, whose versions may differ
# (figure, its program, split's seed, number of questions, type of the weights, what was asked of the model: at least or at most)
PANELS, HANDBOOK = 'panels', 'handbook'
FIGURES = (
    ('panel questions', PANELS, 1, 300, 'F16', '>=', 95), ('handbook questions', HANDBOOK, 1, 200, 'F16', '>=', 95),
    ('panel questions, another seed', PANELS, 2, 300, 'F16', '>=', 93), ('handbook questions, another seed', HANDBOOK, 2, 200, 'F16', '>=', 93),
    ('panel questions, pictures shuffled', PANELS, 1, 300, 'F16', '<', 30),
    ('panel questions, Q8_0', PANELS, 1, 300, 'Q8_0', '>=', 94), ('handbook questions, Q8_0', HANDBOOK, 1, 200, 'Q8_0', '>=', 94),
)
MOST_OF_ONE, MOST_BETWEEN_TYPES = 25, 1.0     # percent of the questions; points
LEVELS = {'x86_64': ('scalar', 'avx2', 'avx512', 'avx512vnni')}.get(platform.machine(), ('scalar',))
# Outputs that are kept whole: what describe says about every picture of the tree, and what generate makes of these.
CHAT = '<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n'
PASSAGES = ('How long do we wait before opening the rack again?', 'Who may report the fire to the ground?', 'How many stretchers are needed?')


def run(*arguments):
    done = subprocess.run(list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, env={**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'})
    assert done.returncode == 0, (arguments, done.returncode, done.stderr.decode(errors='replace')[-2000:])
    return done.stdout.decode()


class Box:
    """The model, its programs, and a place for files."""

    def __init__(self, source, programs, scratch):
        self.source, self.programs, self.scratch = source, programs, pathlib.Path(scratch)
        self.models = {'F16': source / 'panel.gguf', 'Q8_0': self.scratch / 'q8_0.gguf'}
        self.made = {}
        run(programs / 'quantize', self.models['F16'], self.models['Q8_0'], 'Q8_0')

    def questions(self, maker, seed, n):
        """[(picture or '', question, answer, class)] that no training has seen."""
        if (maker, seed, n) not in self.made:
            out = self.scratch / f'{maker}-{seed}'
            target = out if maker == PANELS else f'{out}.jsonl'
            run(sys.executable, self.source / f'{maker}.py', target, '--split', 'test', '--seed', seed, '-n', n)
            rows = map(json.loads, (out / 'questions.jsonl' if maker == PANELS else pathlib.Path(target)).read_text().splitlines())
            self.made[maker, seed, n] = [(str(out / row['image']) if maker == PANELS else '', row['question' if maker == PANELS else 'prompt'], row['answer'], row['class']) for row in rows]
            assert len(self.made[maker, seed, n]) == n
        return self.made[maker, seed, n]

    def answers(self, rows, kind='F16', *options):
        lines = self.scratch / 'lines'
        lines.write_text(''.join('{}\t{}\n'.format(picture, question.replace('\\', '\\\\').replace('\n', '\\n')) for picture, question, *_ in rows))
        found = json.loads(run(self.programs / 'describe', '-m', self.models[kind], '--questions', lines, '--json', '-n', 48, *options))['answers']
        assert len(found) == len(rows)
        return found


def percent(rows, found):
    return 100 * sum(answer == a['text'].strip() for (_, _, answer, *_), a in zip(rows, found)) / len(rows)


def shuffled(rows):
    """Every question with the picture of another one; the answer stays that of its own."""
    pictures = [row[0] for row in rows]
    return [(picture, *row[1:]) for picture, row in zip(pictures[7:] + pictures[:7], rows)]


def measure(box):
    figures = {}
    for name, maker, seed, n, kind, _, _ in FIGURES:
        rows = box.questions(maker, seed, n)
        rows = shuffled(rows) if 'shuffled' in name else rows
        figures[name] = percent(rows, box.answers(rows, kind))
    return figures


def card(path):
    """name -> percent, of the rows of tables "| name | 97.3 % |"."""
    return {name.strip(): float(value) for name, value in re.findall(r'^\| *([^|]+?) *\| *([0-9.]+) % *\|', path.read_text(), re.M)}


def check_figures(box):
    figures, said, faults = measure(box), card(box.source / 'panel.md'), []
    for name, *_, relation, target in FIGURES:
        value = figures[name]
        reached = value >= target if relation == '>=' else value < target
        print(f'| {name} | {value:.1f} % |   wanted: {relation} {target} %{"" if reached else ", NOT REACHED"}', flush=True)
        if 'shuffled' in name and not reached:
            faults.append(f'{name}: {value:.1f} %: the pictures hardly matter')
        if name not in said or abs(said[name] - value) > MARGIN:
            faults.append(f'{name}: {value:.1f} %, but the card says {said.get(name, "nothing")}')
    for what in ('panel questions', 'handbook questions'):
        if abs(figures[what] - figures[f'{what}, Q8_0']) > MOST_BETWEEN_TYPES:
            faults.append(f'{what}: Q8_0 is {figures[what] - figures[f"{what}, Q8_0"]:.1f} points below F16')
    assert not faults, faults


def check_questions(box):
    """No answer, and no class of questions, is so common that blind answers would count."""
    for maker, seed, n in sorted({figure[1:4] for figure in FIGURES}):
        for what, column in (('answers', 2), ('classes', 3)):
            values = [row[column] for row in box.questions(maker, seed, n)]
            most = max(sorted(set(values)), key=values.count)
            share = 100 * values.count(most) / n
            print(f'    {maker}, seed {seed}: {len(set(values))} {what}, the most common one {most!r}: {share:.1f} %')
            assert share <= MOST_OF_ONE


def check_same_answers(box):
    """Whatever computes: the same tokens."""
    rows = box.questions(PANELS, 1, 300)[:24] + box.questions(HANDBOOK, 1, 200)[:12]
    for kind in box.models:
        wanted = [a['ids'] for a in box.answers(rows, kind)]
        for options in [('--cpu-level', level) for level in LEVELS] + [('-t', n) for n in (1, 2, 3)] + [('--batch', 5), ('--no-pack',)]:
            assert [a['ids'] for a in box.answers(rows, kind, *options)] == wanted, (kind, options)


def outputs(box):
    """[{program, arguments, stdout, or sha256 of what it writes}]; paths are those in the tree."""
    rows = []
    for line in (box.source / 'pictures/questions.tsv').read_text().splitlines():
        picture, question, _ = line.split('\t')
        rows.append(('describe', '--image', f'pictures/{picture}', '-p', question))
    for question in PASSAGES:
        passage = json.loads(run(box.programs / 'handbook', '-m', box.models['F16'], '--passages', box.source / 'handbook.txt', '-p', question, '-n', 1, '--json'))['passage']
        rows.append(('handbook', '--passages', 'handbook.txt', '-p', question))
        rows.append(('generate', '-p', CHAT.format(f'{passage}\n\n{question}')))
    rows.append(('generate', '-p', 'The'))
    made = []
    for program, *arguments in rows:
        placed = [box.source / a if before in ('--image', '--passages') else a for before, a in zip([''] + arguments, arguments)]
        made.append({'program': program, 'arguments': arguments, 'stdout': run(box.programs / program, '-m', box.models['F16'], '-n', 40, *placed)})
    # Answers forgive much; these bytes, which are the same on every machine, forgive nothing.
    arguments = ['--image', 'pictures/panel1.png', '-p', CHAT.format('<|image|>What is the fan speed?')]
    out = box.scratch / 'logits.npy'
    run(box.programs / 'logits', '-m', box.models['F16'], '-o', out, '--image', box.source / arguments[1], *arguments[2:])
    return made + [{'program': 'logits', 'arguments': arguments, 'sha256': hashlib.sha256(out.read_bytes()).hexdigest()}]


def check_golden(box):
    golden, found = json.loads((HERE / 'golden.json').read_text()), outputs(box)
    for wanted, got in zip(golden, found):
        assert got == wanted, (wanted, got)
    assert len(golden) == len(found) > len(PASSAGES)


def check_pictures(box):
    """The pictures of the tree are answered as its list says, but for those that the card owns up to."""
    rows = [line.split('\t') for line in (box.source / 'pictures/questions.tsv').read_text().splitlines()]
    found = box.answers([(str(box.source / 'pictures' / picture), question, answer) for picture, question, answer in rows])
    wrong = [(picture, question, answer, a['text']) for (picture, question, answer), a in zip(rows, found) if a['text'].strip() != answer]
    print(f'    {len(rows) - len(wrong)} of {len(rows)} right', *wrong)
    assert 10 * len(wrong) <= len(rows)


CHECKS = (check_questions, check_figures, check_same_answers, check_pictures, check_golden)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=pathlib.Path)
    parser.add_argument('programs', type=pathlib.Path)
    parser.add_argument('--renew', action='store_true', help='write golden.json')
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        box = Box(options.source, options.programs, scratch)
        if options.renew:
            (HERE / 'golden.json').write_text(json.dumps(outputs(box), indent=1, ensure_ascii=False) + '\n')
            return 0
        for check in CHECKS:
            start = time.monotonic()
            try:
                check(box)
                print(f'ok   {check.__name__}, {time.monotonic() - start:.1f} s', flush=True)
            except Exception as error:
                failed += 1
                print(f'FAIL {check.__name__}: {type(error).__name__}: {error}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
