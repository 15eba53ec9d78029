"""An app on Python's own `http.server`, which also asks other apps, all of them through one address.

Arguments: its name, and that address. `/via/ANOTHER/...` asks ANOTHER for `/via/...`, passing on what
it was sent; `/via` is answered. Every answer tells what was seen of the request.
"""

import http.client
import http.server
import json
import sys

NAME, OUTBOUND = sys.argv[1], sys.argv[2]
SECONDS_MAX = 60


def ask(name, rest, method, fields, body):
    connection = http.client.HTTPConnection(OUTBOUND, timeout=SECONDS_MAX)
    try:
        fields = {**fields, "Host": f"{name}.mesh"}
        connection.request(method, "/".join(["/via", *rest]), body=body, headers=fields)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise RuntimeError(f"{name} answered {answer.status}: {text}")
        return json.loads(text)
    finally:
        connection.close()


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer in one piece.
    wbufsize = -1
    disable_nagle_algorithm = True

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        seen = {
            "app": NAME,
            "method": self.command,
            "body": body.decode(),
            "callers": self.headers.get_all("x-forwarded-client-cert", []),
            "next": None,
        }
        status = 200
        _, _, *names = self.path.split("/")
        if names:
            passed_on = {k: v for k, v in self.headers.items() if k.lower().startswith("x-")}
            try:
                seen["next"] = ask(names[0], names[1:], self.command, passed_on, body)
            except Exception as error:
                status, seen["error"] = 502, str(error)
        text = json.dumps(seen).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
print(f"listening 127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
