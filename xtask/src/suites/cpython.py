"""Runs one of CPython's test modules, and writes a line for each test to a file.

cpython.py MODULE FILE SECONDS: the lines are "begin NAME" and "end NAME OUTCOME". Tests that FILE
names already are left out, so that a run can go on behind a test that hung. A test that takes
longer than SECONDS ends the process; a process that comes to its end writes "done".
"""

import faulthandler
import os
import sys
import unittest
import warnings

from test import support
from test.support import os_helper

MODULE, FILE, SECONDS = sys.argv[1], sys.argv[2], float(sys.argv[3])


class Lines(unittest.TestResult):
    """Writes each test's outcome as soon as it is known."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def line(self, text):
        self.file.write(text + "\n")
        self.file.flush()

    def startTest(self, test):
        super().startTest(test)
        self.outcome = "ok"
        self.line(f"begin {test.id()}")
        print(f"== {test.id()}", file=sys.stderr, flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)

    def stopTest(self, test):
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        self.line(f"end {test.id()} {self.outcome}")

    def is_of_class(self, test, outcome):
        """Whether it was the set-up of a class or module that ended so."""
        alone = not isinstance(test, unittest.TestCase)
        if alone:
            self.line(f"begin {test.id()}")
            self.line(f"end {test.id()} {outcome}")
        return alone

    def addError(self, test, err):
        super().addError(test, err)
        print(self.errors[-1][1], file=sys.stderr, flush=True)
        if not self.is_of_class(test, "error"):
            self.outcome = "error"

    def addFailure(self, test, err):
        super().addFailure(test, err)
        print(self.failures[-1][1], file=sys.stderr, flush=True)
        self.outcome = "failed"

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            print(f"{subtest.id()}: {err[1]}", file=sys.stderr, flush=True)
            self.outcome = "failed"

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"skipped: {reason}", file=sys.stderr, flush=True)
        if not self.is_of_class(test, "skipped"):
            self.outcome = "skipped"

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.outcome = "failed as expected"

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.outcome = "unexpected success"


def cases(suite):
    """The tests of a suite, whose classes must stay together for their set-up."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases(item)
        else:
            yield item


def main():
    support.use_resources = ["network", "cpu"]
    support.verbose = True
    warnings.simplefilter("ignore")
    known = set()
    if os.path.exists(FILE):
        with open(FILE) as file:
            known = {line.split()[1] for line in file if line.startswith("begin ")}
    with open(FILE, "a") as file, os_helper.temp_dir() as directory:
        os.chdir(directory)
        lines = Lines(file)
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName(MODULE)
        except unittest.SkipTest as reason:
            print(f"skipped: {reason}", file=sys.stderr)
            suite = ()
        chosen = [case for case in cases(suite) if case.id() not in known]
        chosen = [case for case in chosen if "VSOCK" not in case.id()]
        unittest.TestSuite(chosen).run(lines)
        lines.line("done")
    # Threads that a test has left behind must not keep the process.
    sys.stderr.flush()
    os._exit(0)


main()
