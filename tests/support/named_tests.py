# SPDX-License-Identifier: MIT
"""Runs the functions of a script whose names begin with own_ (they need nothing else) or fixtures_ (they need the reference data that SL_FIXTURES names): one test each."""
import os
import pathlib
import tempfile
import traceback


def run(script, which):
    """script: its globals(), whose SCRATCH becomes a folder that is there for the time. Returns the exit status; 77 is skipped."""
    if which == 'fixtures' and not os.path.isdir(os.environ.get('SL_FIXTURES', '')):
        print('SL_FIXTURES names no folder: skipped')
        return 77
    tests = [(name, test) for name, test in script.items() if name.startswith(which + '_')]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        script['SCRATCH'] = pathlib.Path(folder)
        for name, test in tests:
            try:
                test()
                print('ok  ', name, flush=True)
            except Exception:
                failed += 1
                print('FAIL', name, flush=True)
                traceback.print_exc()
    return 1 if failed or not tests else 0
