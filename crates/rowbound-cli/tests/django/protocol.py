"""How the scenarios talk with the test that runs them: one JSON object a line on stdout, one line of answer on stdin.

The test (../django.rs) holds the other half: it starts and stops the collector, looks at the media folder and compares. A request that
it cannot fulfil ends the test there, with its own words.
"""

import json
import sys


def ask(**request):
    """Sends a request and waits for its answer."""
    sys.__stdout__.write(json.dumps(request) + "\n")
    sys.__stdout__.flush()
    line = sys.stdin.readline()
    if not line:
        raise SystemExit("the test has ended")
    return json.loads(line)


def setup():
    """Django with the project's settings; whatever it prints goes to stderr, because stdout is the protocol."""
    sys.stdout = sys.stderr
    import django

    django.setup()
