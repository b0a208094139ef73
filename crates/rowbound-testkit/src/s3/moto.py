"""moto as a server: port 0 takes a free one, and it says which. Ends with its standard input, so that no test leaves it behind."""

import os
import re
import sys
import threading
import types

import werkzeug.routing.matcher
from moto.server import main

# Its routes end a key at a line feed, and answer 404; to S3 that is a byte like any other.
werkzeug.routing.matcher.re = types.SimpleNamespace(sub=re.sub, compile=lambda pattern: re.compile(pattern, re.DOTALL))

# It looks whether a condition holds, and then deletes; to S3 that is one step. Its threads change places only where one of them waits, and none does in between.
sys.setswitchinterval(60)

threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
