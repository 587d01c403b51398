#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws how training went: curve.py runs/curve.jsonl OUT.png (needs matplotlib)."""
import json
import pathlib
import sys

import matplotlib
matplotlib.use('Agg')
from matplotlib import pyplot

LOSSES = (('panel', 'panel answers', '#1f6fb4'), ('describe', 'descriptions', '#7fb2dd'), ('book', 'handbook answers', '#c8641e'))
SHARES = (('panel_exact', 'panel questions', '#1f6fb4'), ('book_exact', 'handbook questions', '#c8641e'), ('shuffled_exact', 'panel questions, pictures shuffled', '#888888'))


def main(source, target):
    rows = [json.loads(line) for line in pathlib.Path(source).read_text().splitlines()]
    minutes = [row['seconds'] / 60 for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), dpi=90)
    for key, name, colour in LOSSES:
        points = [(m, row[key]) for m, row in zip(minutes, rows) if key in row]
        left.plot(*zip(*points), label=name, color=colour)
    left.set(xlabel='minutes', ylabel='loss per token', yscale='log')
    for key, name, colour in SHARES:
        right.plot(minutes, [100 * row[key] for row in rows], label=name, color=colour)
    right.set(xlabel='minutes', ylabel='exact answers, percent (validation)', ylim=(0, 101))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
        for side in ('top', 'right'):
            axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(target)


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit('usage: curve.py CURVE.jsonl OUT.png')
    main(*sys.argv[1:])
