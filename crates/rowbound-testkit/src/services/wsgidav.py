"""WsgiDAV over a folder, on a free port, which it tells. Ends with its standard input, so that no test leaves it behind."""

import os
import sys
import threading

from cheroot import wsgi
from wsgidav.wsgidav_app import WsgiDAVApp

folder, user, password = sys.argv[1:]
app = WsgiDAVApp({
    "provider_mapping": {"/dav": folder},
    "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
    "simple_dc": {"user_mapping": {"*": {user: {"password": password}}}},
    "dir_browser": {"enable": False},
    "verbose": 1,
})
server = wsgi.Server(("127.0.0.1", 0), app, numthreads=16)
server.prepare()
print(f"Running on port {server.bind_addr[1]}.", flush=True)
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
server.serve()
