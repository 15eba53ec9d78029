"""A gRPC server by `grpcio`: an echo, once and as a stream in both directions, and a failure."""

from concurrent import futures

import grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-tenant", metadata.get("x-tenant", "none")),))
    return b"echo " + request


def chat(requests, context):
    for request in requests:
        yield b"echo " + request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening 127.0.0.1:{port}", flush=True)
server.wait_for_termination()
