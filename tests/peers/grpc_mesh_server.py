"""A gRPC server by `grpcio` for calls through sidecars: every kind of stream, calls that fail so many
times, calls that last until they are cancelled. Tells on standard output who was cancelled."""

import collections
import threading
from concurrent import futures

import grpc

failures = collections.Counter()
lock = threading.Lock()


def with_metadata(context):
    """Sends back what came, and how much time there is."""
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", metadata.get("x-sent", "none")),))
    remaining = context.time_remaining()
    trailing = [("x-trailing-bin", bytes(range(256)))]
    if remaining is not None:
        trailing.append(("x-remaining", f"{remaining:.6f}"))
    context.set_trailing_metadata(trailing)


def unary(request, context):
    with_metadata(context)
    return b"echo " + request


def count(request, context):
    with_metadata(context)
    for number in range(int(request)):
        yield b"%d" % number


def add(requests, context):
    with_metadata(context)
    return b"%d" % sum(len(request) for request in requests)


def chat(requests, context):
    with_metadata(context)
    for request in requests:
        yield b"echo " + request


def until_cancelled(name, context):
    over = threading.Event()

    def cancelled():
        print(f"cancelled {name}", flush=True)
        over.set()

    if not context.add_callback(cancelled):
        cancelled()
    return over


def slow(request, context):
    print(f"remaining {context.time_remaining():.6f}", flush=True)
    until_cancelled("slow", context).wait()
    return b"too late"


def watch(request, context):
    over = until_cancelled("watch", context)
    number = 0
    while not over.wait(0.05):
        yield b"%d" % number
        number += 1


def flaky(request, context):
    """Fails as often as the request says before it succeeds, for each key."""
    key = dict(context.invocation_metadata())["x-key"]
    with lock:
        failures[key] += 1
        attempt = failures[key]
    context.set_trailing_metadata((("x-attempt", str(attempt)),))
    if attempt <= int(request):
        context.abort(grpc.StatusCode.UNAVAILABLE, f"not yet, {attempt}")
    return b"attempt %d" % attempt


def flaky_stream(request, context):
    """The same with a head before the failure, and no message."""
    context.send_initial_metadata((("x-initial", "sent"),))
    yield flaky(request, context)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Add": grpc.stream_unary_rpc_method_handler(add),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Watch": grpc.unary_stream_rpc_method_handler(watch),
    "Flaky": grpc.unary_unary_rpc_method_handler(flaky),
    "FlakyStream": grpc.unary_stream_rpc_method_handler(flaky_stream),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mesh.Mesh", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening 127.0.0.1:{port}", flush=True)
server.wait_for_termination()
