"""The reference filter in Python: continues or starts a trace, refuses one path, and tells the
client the trace id.

An exception that is not an `Err` of the hook is a failure of the filter; its message goes to the
log of the host.
"""

import json
import re

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.configure import ConfigError
from wit_world.imports import log, notes, random, request, response
from wit_world.imports.types import Field, HeadDecision_Proceed, HeadDecision_Respond, LocalResponse

TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")

refuse = "/private"


class Configure(exports.Configure):
    def configure(self, config: str) -> None:
        global refuse
        for key, value in json.loads(config).items():
            if key != "refuse":
                raise Err(ConfigError(key, "no such key: there is `refuse`"))
            if not isinstance(value, str) or not value.startswith("/"):
                raise Err(ConfigError(key, "a path begins with `/`"))
            refuse = value


class OnRequest(exports.OnRequest):
    def on_request(self):
        path = request.path()
        if path == refuse:
            log.write(log.Level.WARN, f"refused {path}")
            headers = [Field("content-type", b"text/plain")]
            return HeadDecision_Respond(LocalResponse(403, headers, b"not for you\n"))
        lines = request.header_all("traceparent")
        valid = TRACEPARENT.fullmatch(lines[0]) if len(lines) == 1 else None
        if valid:
            trace, flags = valid.groups()
        else:
            request.remove_header("tracestate")
            trace, flags = random.bytes(16).hex(), "01"
        parent = random.bytes(8).hex()
        request.set_header("traceparent", f"00-{trace}-{parent}-{flags}")
        notes.set_note("reference.trace", trace)
        return HeadDecision_Proceed()


class OnResponse(exports.OnResponse):
    def on_response(self):
        trace = notes.note("reference.trace")
        if trace is not None:
            response.set_header("x-trace-id", trace)
        return HeadDecision_Proceed()
