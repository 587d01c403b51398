#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains the model of the box: see README.md for the commands. Stage `see` trains the encoder alone."""
import argparse
import json
import math
import os
import pathlib
import signal
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
import torch.nn.functional as F
from torch import nn

import folder
import from_gguf
import handbook
import panels
import pool
import tokens
from model import SIZES, Mllama

HERE = pathlib.Path(__file__).resolve().parent
N_VOCAB = 1536
KIND = np.array([panels.KINDS.index(row[0]) for row in panels.INSTRUMENTS] + [-1])
# What the helpers name of the instrument in a cell: (name, number of classes, kinds of instruments that have it).
ASPECTS = (('which', pool.ABSENT + 1, None), ('mark', 11, (0, 1)), ('hundreds', 10, (2,)), ('tens', 10, (2,)), ('ones', 10, (2,)), ('light', 4, (3,)), ('switch', 2, (4,)), ('place', 4, None))


class Helpers(nn.Module):
    """Linear readers of the vectors that text will look at: every patch shall know which instrument its cell holds, what it reads and where it is, so that text
    finds all of that in one place. They are no part of the model; they teach its encoder early what to tell apart."""
    def __init__(self, width):
        super().__init__()
        self.readers = nn.Linear(width, sum(row[1] for row in ASPECTS))

    def forward(self, vectors, contents):
        """Sum of the losses, and the share of right answers of each aspect."""
        b, n, w = vectors.shape
        side, cells = math.isqrt(n - 1) // 2, contents.shape[0] * 4
        patches = vectors[:, 1:].view(b, 2, side, 2, side, w).transpose(2, 3).reshape(cells, side * side, w)
        scores = self.readers(patches.float()).float().split([row[1] for row in ASPECTS], -1)
        which, reading = contents.view(-1, 2).long().unbind(1)
        kind = torch.from_numpy(KIND).to(which.device)[which]
        targets = {'which': which, 'mark': reading, 'hundreds': reading // 100, 'tens': reading // 10 % 10, 'ones': reading % 10, 'light': reading, 'switch': reading,
                   'place': torch.arange(cells, device=which.device) % 4}
        loss, right = 0, {}
        for (name, classes, kinds), score in zip(ASPECTS, scores):
            has = torch.ones_like(which, dtype=torch.bool) if kinds is None else sum(kind == k for k in kinds).bool()
            if has.any():
                target = targets[name][has][:, None].expand(-1, side * side)
                loss = loss + F.cross_entropy(score[has].flatten(0, 1), target.flatten())
                right[name] = (score[has].argmax(-1) == target).float().mean().item()
        return loss, right


def save(path, **things):
    new = path.with_suffix('.new')
    torch.save(things, new)
    new.replace(path)


def schedule(share, warm=0.02, least=0.03):
    """Of the learning rate: linear warm-up, then half a cosine; share is the part of the time that is over."""
    return min(share / warm, 1) * (least + (1 - least) * 0.5 * (1 + math.cos(math.pi * min(share, 1))))


def see(args, model, runs):
    rng, device = np.random.default_rng(args.seed), torch.device(args.device)
    torch.set_num_threads(args.threads)
    panel_pool = pool.Pool(runs / 'pool', 24576, args.seed, args.uses, args.workers, rng)
    held = [torch.from_numpy(a).to(device) for a in pool.render('validation', 1, 0, 256)]
    helpers = Helpers(model.sizes['text']['width']).to(device)
    model.to(device)
    weights = [*model.vision_model.parameters(), *model.multi_modal_projector.parameters(), *helpers.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=args.rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    start = saved = time.time()
    step, mean = 0, None
    while (share := (time.time() - start) / (60 * args.minutes)) < 1:
        for group in optimiser.param_groups:
            group['lr'] = args.rate * schedule(share)
        pictures, contents = (torch.from_numpy(a).to(device) for a in panel_pool.draw(args.batch))
        with torch.autocast(device.type, torch.bfloat16):
            vectors = model.look(pictures)
        loss, _ = helpers(vectors, contents)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        step += 1
        if step % 50 == 0:
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                held_loss, right = helpers(model.look(held[0]), held[1])
            print(f'{time.time() - start:5.0f} s, step {step}, {step * args.batch / (time.time() - start):.0f}/s, rendered {panel_pool.rendered}, loss {mean:.3f}, held {held_loss:.3f}: '
                  + ', '.join(f'{k} {v:.3f}' for k, v in right.items()), flush=True)
        if time.time() - saved > 120 or (time.time() - start) / (60 * args.minutes) >= 1:
            save(runs / 'see.pt', model=model.state_dict(), helpers=helpers.state_dict(), step=step)
            saved = time.time()


def pad(rows, filling):
    """Sequences of (ids, mine) as two matrices [n, longest]."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), filling)
    mine = torch.zeros((len(rows), longest), dtype=torch.int8)
    for i, (row, own) in enumerate(rows):
        ids[i, :len(row)] = torch.tensor(row)
        mine[i, :len(row)] = torch.tensor(own)
    return ids, mine


def ask_absent_alike(rng, content):
    """Asks for an instrument that is not there, but another of its kind is."""
    shown = [one[0] for one in content if one]
    which = panels.pick(rng, [w for w in range(len(panels.INSTRUMENTS)) if w not in shown and KIND[w] in KIND[shown]])
    return panels.pick(rng, panels.QUESTIONS[panels.INSTRUMENTS[which][0]]).format(panels.INSTRUMENTS[which][2]), panels.ABSENT, 'absent'


def ask_hard(rng, content):
    """As panels.make_question, but what is learnt more slowly comes more often: absent ones, places, and instruments of a kind that the panel has several of."""
    ask = panels.pick(rng, (panels.ask_reading,) * 4 + (panels.ask_absent, ask_absent_alike, ask_absent_alike) + (panels.ask_where,) * 3 + (panels.ask_what,))
    kinds = [KIND[one[0]] if one else -1 for one in content]
    alike = [one if one and kinds.count(kind) > 1 else None for one, kind in zip(content, kinds)]
    return ask(rng, alike if any(alike) and ask in (panels.ask_reading, panels.ask_where) and rng.random() < 0.6 else content)


class Texts:
    """Makes the sequences of a step, of the split `train`."""
    def __init__(self, tokenizer, rng):
        self.tokenizer, self.rng, self.filling = tokenizer, rng, tokenizer.id['<|finetune_right_pad_id|>']

    def about_panels(self, contents, ask):
        rows = []
        for content in contents.tolist():
            question, answer = ask(self.rng, [None if which == pool.ABSENT else (which, reading) for which, reading in content])[:2]
            rows.append(self.tokenizer.chat([(question, answer)], True))
        return pad(rows, self.filling)

    def from_handbook(self, n):
        """Questions about passages, three of four with two more about the same passage; one in twelve is the bare passage."""
        rows = []
        for i in range(n):
            text, facts = handbook.make_passage(self.rng, int(self.rng.integers(len(handbook.PROCEDURES))))
            turns = [handbook.make_question(self.rng, facts, 0.4, 0.8)[:2] for _ in range(3 if i % 4 else 1)]
            if i % 12 == 1:
                ids = [self.tokenizer.id['<|begin_of_text|>'], *self.tokenizer.encode(text), self.tokenizer.id['<|end_of_text|>']]
                rows.append((ids, [0] + [1] * (len(ids) - 1)))
            else:
                rows.append(self.tokenizer.chat([(f'{text}\n\n{turns[0][0]}', turns[0][1]), *turns[1:]]))
        return pad(rows, self.filling)


def losses(model, ids, mine, pictures, others=0.0):
    """Mean loss per token of the answers, plus `others` times that of a sample of the remaining tokens."""
    hidden = model(ids[:, :-1], pictures)
    target, own = ids[:, 1:], mine[:, 1:] == 1
    loss = F.cross_entropy(model.language_model.lm_head(hidden[own]).float(), target[own])
    if others:
        rest = ~own & (target < model.n_vocab - len(tokens.SPECIAL)) & (torch.rand(target.shape, device=target.device) < 0.2)
        loss = loss + others * F.cross_entropy(model.language_model.lm_head(hidden[rest]).float(), target[rest])
    return loss


def exact(model, ids, mine, pictures=None):
    """For each sequence whether every token of the answer is the most likely one: then greedy decoding gives that answer."""
    with torch.no_grad(), torch.autocast(ids.device.type, torch.bfloat16):
        best = model.language_model.lm_head(model(ids[:, :-1], pictures)).argmax(-1)
    return ((best == ids[:, 1:]) | (mine[:, 1:] == 0)).all(1)


class Held:
    """Questions of the split `validation`."""
    def __init__(self, tokenizer, n, device):
        panel, book = list(panels.make_samples('validation', 2, n)), list(handbook.make_samples('validation', 2, n))
        filling = tokenizer.id['<|finetune_right_pad_id|>']
        self.pictures = torch.from_numpy(np.stack([row[0] for row in panel])).to(device)
        self.panel = [t.to(device) for t in pad([tokenizer.chat([(row[1], row[2])], True) for row in panel], filling)]
        self.book = [t.to(device) for t in pad([tokenizer.chat([(row[0], row[1])]) for row in book], filling)]
        self.classes = [[row[-1] for row in panel], [row[-1] for row in book]]

    def measure(self, model):
        with torch.no_grad(), torch.autocast(self.pictures.device.type, torch.bfloat16):
            vectors = model.look(self.pictures)
        right = exact(model, *self.panel, vectors), exact(model, *self.book)
        shuffled = exact(model, *self.panel, vectors.roll(1, 0))
        classes = [{c: round(100 * float(r[[i for i, k in enumerate(names) if k == c]].float().mean())) for c in sorted(set(names))} for r, names in zip(right, self.classes)]
        return *(float(r.float().mean()) for r in (*right, shuffled)), classes


def together(weights, stop):
    """Means of the gradients of all processes; tells whether any of them wants to stop."""
    n = dist.get_world_size()
    grads = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in weights]
    flat = torch.cat([*grads, torch.tensor([float(stop)], device=weights[0].device)])
    dist.all_reduce(flat)
    for p, grad in zip(weights, flat.split([*(p.numel() for p in weights), 1])):
        p.grad = grad.view_as(p) / n
    return flat[-1].item() > 0


def learn(rank, args, model, helpers, tokenizer, runs):
    if rank:
        os.setsid()         # where processor time is shared out by session, every process has its share
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed + rank)
    dist.init_process_group('gloo', init_method=f'file://{runs.resolve()}/meeting', rank=rank, world_size=args.processes)
    device = torch.device(args.device)
    held = Held(tokenizer, 300, device) if rank == 0 else None
    model.to(device)
    helpers.to(device)
    weights = [*model.parameters(), *helpers.parameters()]
    optimiser = torch.optim.AdamW([{'params': [p for p in weights if p.dim() > 1], 'weight_decay': 0.05}, {'params': [p for p in weights if p.dim() <= 1], 'weight_decay': 0.0}],
                                  lr=args.rate, betas=(0.9, 0.98), fused=True)
    step, seen, before = 0, 0, 0.0
    if args.resume:
        state = torch.load(runs / 'learn.pt', map_location=device, weights_only=False)
        model.load_state_dict(state['model'])
        helpers.load_state_dict(state['helpers'])
        optimiser.load_state_dict(state['optimiser'])
        step, seen, before = state['step'], state['seen'], state['seconds']
    rng = np.random.default_rng([args.seed, step, rank])
    texts, panel_pool = Texts(tokenizer, rng), pool.Pool(runs / 'pool', 24576, args.seed, args.uses / args.processes, args.workers if rank == 0 else 0, rng)
    saved = time.time()
    start = saved - before
    means, n, stop = {}, args.batch, []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))        # saves, then ends
    done = False
    while not done:
        share = (time.time() - start) / (60 * args.minutes)
        for group in optimiser.param_groups:
            group['lr'] = args.rate * schedule(share)
        pictures, contents = (torch.from_numpy(a) for a in panel_pool.draw(n))
        asked, few = args.asked or n, (args.asked or n) // 4
        parts = {'panel': [t.to(device) for t in texts.about_panels(contents[:asked].repeat_interleave(args.questions, 0), ask_hard)],
                 'describe': [t.to(device) for t in texts.about_panels(contents[:few], panels.describe)], 'book': [t.to(device) for t in texts.from_handbook(args.passages)]}
        with torch.autocast(device.type, torch.bfloat16):
            vectors = model.look(pictures.to(device))
            found = {'panel': losses(model, *parts['panel'], vectors[:asked].repeat_interleave(args.questions, 0)), 'describe': losses(model, *parts['describe'], vectors[:few]),
                     'book': losses(model, *parts['book'], None, 0.1)}
        found['helpers'], _ = helpers(vectors, contents.to(device))
        loss = found['panel'] + 0.3 * found['describe'] + found['book'] + args.helpers * found['helpers']
        loss.backward()
        done = together(weights, share >= 1 or bool(stop))
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + n * args.processes
        if rank:
            continue
        if step % 10 == 0:
            means = {k: (0.8 * means[k] if k in means else v.item() * 0.8) + 0.2 * v.item() for k, v in found.items()}
        if step % args.every == 0 or done:
            panel, book, shuffled, classes = held.measure(model)
            row = {'seconds': round(time.time() - start), 'step': step, 'panels': seen, 'rendered': panel_pool.rendered, 'rate': optimiser.param_groups[0]['lr'], **{k: round(v, 4) for k, v in means.items()},
                   'panel_exact': round(panel, 4), 'book_exact': round(book, 4), 'shuffled_exact': round(shuffled, 4)}
            print(f'{row["seconds"]:5} s, step {step}, {seen} panels, rendered {panel_pool.rendered}, loss ' + ' '.join(f'{k} {v:.3f}' for k, v in means.items())
                  + f', exact: panel {panel:.3f} (shuffled {shuffled:.3f}) book {book:.3f}, {classes[0]} {classes[1]}', flush=True)
            with open(runs / 'curve.jsonl', 'a') as file:
                file.write(json.dumps(row) + '\n')
        if time.time() - saved > 60 * args.save or done:
            save(runs / 'learn.pt', model=model.state_dict(), helpers=helpers.state_dict(), optimiser=optimiser.state_dict(), step=step, seen=seen, seconds=time.time() - start)
            folder.write_folder(runs / 'hf', model, tokenizer)
            saved = time.time()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument('--stage', choices=('see', 'learn'), default='see')
    options.add_argument('--minutes', type=float, default=14, help='the learning rate falls over this time, pauses included')
    options.add_argument('--rate', type=float, default=2e-3)
    options.add_argument('--batch', type=int, default=64, help='pictures of a step')
    options.add_argument('--asked', type=int, default=0, help='pictures of a step that there are questions about (the helpers see all); 0: all of them')
    options.add_argument('--questions', type=int, default=3, help='per picture')
    options.add_argument('--passages', type=int, default=64, help='of the handbook, per step')
    options.add_argument('--helpers', type=float, default=0.2, help='weight of the loss of the helpers')
    options.add_argument('--every', type=int, default=100, help='steps between measurements')
    options.add_argument('--save', type=float, default=5, help='minutes between checkpoints')
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('--uses', type=float, default=4, help='of a picture')
    options.add_argument('--workers', type=int, default=1, help='processes that draw')
    options.add_argument('--processes', type=int, default=1, help='that learn together, each with pictures and passages of its own')
    options.add_argument('--threads', type=int, default=1)
    options.add_argument('--device', default='cpu')
    options.add_argument('--resume', action='store_true', help='go on with runs/learn.pt')
    options.add_argument('--start', type=pathlib.Path, help='what to start from: a GGUF file, or a folder in the form of Hugging Face')
    options.add_argument('--runs', type=pathlib.Path, default=HERE / 'runs')
    args = options.parse_args()
    torch.manual_seed(args.seed)
    args.runs.mkdir(exist_ok=True)
    vocabulary = args.runs / 'tokenizer.json'
    if not vocabulary.exists():
        vocabulary.write_text(json.dumps(tokens.learn_from_own_texts(N_VOCAB).to_json()))
    tokenizer = tokens.from_json(vocabulary)
    model = Mllama(SIZES, tokenizer.n_vocab)
    helpers = Helpers(model.sizes['text']['width'])
    if args.start:
        model, tokenizer = folder.read_folder(args.start) if args.start.is_dir() else from_gguf.read_gguf(args.start)
    elif args.stage == 'learn' and not args.resume and (args.runs / 'see.pt').exists():
        state = torch.load(args.runs / 'see.pt', map_location='cpu', weights_only=False)
        model.load_state_dict({k: v for k, v in state['model'].items() if not k.startswith('language_model')}, strict=False)
        helpers.load_state_dict(state['helpers'])
    if args.stage == 'see':
        see(args, model, args.runs)
    else:
        (args.runs / 'meeting').unlink(missing_ok=True)
        others = [processes.get_context('fork').Process(target=learn, args=(rank, args, model, helpers, tokenizer, args.runs)) for rank in range(1, args.processes)]
        for other in others:
            other.start()
        learn(0, args, model, helpers, tokenizer, args.runs)
        for other in others:
            other.join()


if __name__ == '__main__':
    main()
