"""Python's own `http.server` over the working directory: an origin that speaks HTTP/1.0."""

import http.server
import sys

server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0),
    lambda *args: http.server.SimpleHTTPRequestHandler(*args, directory=sys.argv[1]),
)
print(f"listening 127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
