"""moto as a server: port 0 takes a free one, and it says which. Ends with its standard input, so that no test leaves it behind."""

import os
import sys
import threading

from moto.server import main

threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
