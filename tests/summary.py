#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Adds up the results of `meson test`: summary.py TESTLOG.json...

Names every test that failed or was skipped, with its reason, then prints `N passed, N failed, N skipped`. A missing log, or one
without a single result, is a failure: nothing may pass because nothing ran. Exit status 1 if anything failed.
"""
import json
import re
import sys

PASSED = {'OK', 'EXPECTEDFAIL'}


def last_line(text):
    lines = [line.strip() for line in (text or '').splitlines() if line.strip()]
    return lines[-1] if lines else ''


def reason(test):
    """Why a test was skipped: what it said last, on either stream."""
    return last_line(test.get('stdout')) or last_line(test.get('stderr')) or 'no reason given'


def skipped_cases(test):
    """Cases that a passing cmocka program left out by itself."""
    return sum(int(n) for n in re.findall(r'\[  SKIPPED \] (\d+) test\(s\)', (test.get('stdout') or '') + (test.get('stderr') or '')))


def main(paths):
    passed, failed, skipped, partly = [], [], [], []
    for path in paths:
        try:
            with open(path) as file:
                tests = [json.loads(line) for line in file if line.strip()]
        except OSError as error:
            tests = []
            failed.append(('no test log', str(error)))
        if not tests:
            failed.append((path, 'holds no results'))
        for test in tests:
            name, result = test['name'], test['result']
            if result in PASSED:
                passed.append(name)
                if skipped_cases(test):
                    partly.append((name, f'{skipped_cases(test)} of its cases skipped'))
            elif result == 'SKIP':
                skipped.append((name, reason(test)))
            else:
                failed.append((name, result.lower()))
    for title, rows in ('skipped', skipped), ('partly skipped', partly), ('failed', failed):
        for name, why in rows:
            print(f'{title}: {name}: {why}')
    print(f'{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped')
    return 1 if failed or not passed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
