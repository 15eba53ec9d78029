"""A gRPC client by `grpcio`: calls the methods of grpc_server.py through the address it is given."""

import queue
import sys

import grpc

SECONDS_MAX = 60

with grpc.insecure_channel(sys.argv[1]) as channel:
    unary = channel.unary_unary("/echo.Echo/Unary")
    for text in (b"", b"small", b"large" * 100_000):
        answer, call = unary.with_call(text, metadata=(("x-tenant", "a"),), timeout=SECONDS_MAX)
        assert answer == b"echo " + text
        assert dict(call.trailing_metadata())["x-tenant"] == "a"
    print("unary ok")

    # Each message is sent only after the answer to the one before: both directions at once.
    outgoing = queue.Queue()
    answers = channel.stream_stream("/echo.Echo/Chat")(iter(outgoing.get, None), timeout=SECONDS_MAX)
    for number in range(50):
        text = f"message {number}".encode()
        outgoing.put(text)
        assert next(answers) == b"echo " + text
    outgoing.put(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK
    print("chat ok")

    try:
        channel.unary_unary("/echo.Echo/Fail")(b"", timeout=SECONDS_MAX)
        raise AssertionError("the call succeeded")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert error.details() == "not today"
    print("failure ok")
