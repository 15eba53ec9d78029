"""A gRPC client by `grpcio`: calls the methods of grpc_mesh_server.py through the address it is given.
The second argument says which of the scenarios below, each of which ends with a line of its name."""

import queue
import sys

import grpc

SECONDS_MAX = 120
SENT = (("x-sent", "value"), ("x-sent-bin", b"\x00\xff"))


def method(kind, name):
    return getattr(channel, kind)(f"/mesh.Mesh/{name}")


def check_metadata(call, seconds):
    assert dict(call.initial_metadata())["x-initial"] == "value"
    trailing = dict(call.trailing_metadata())
    assert trailing["x-trailing-bin"] == bytes(range(256))
    # The client itself writes it with three digits, rounded up.
    assert 0 < float(trailing["x-remaining"]) <= seconds * 1.01, trailing
    assert call.code() == grpc.StatusCode.OK


def expect(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError("the call succeeded")


def streams():
    for text in (b"", b"small", b"large" * 300_000):
        answer, call = method("unary_unary", "Unary").with_call(
            text, metadata=SENT, timeout=SECONDS_MAX
        )
        assert answer == b"echo " + text
        check_metadata(call, SECONDS_MAX)

    answers = method("unary_stream", "Count")(b"1000", metadata=SENT, timeout=SECONDS_MAX)
    assert list(answers) == [b"%d" % number for number in range(1000)]
    check_metadata(answers, SECONDS_MAX)

    parts = (b"x" * 10_000 for _ in range(200))
    answer, call = method("stream_unary", "Add").with_call(
        parts, metadata=SENT, timeout=SECONDS_MAX
    )
    assert answer == b"2000000"
    check_metadata(call, SECONDS_MAX)

    # Each message is sent only after the answer to the one before: both directions at once.
    outgoing = queue.Queue()
    answers = method("stream_stream", "Chat")(
        iter(outgoing.get, None), metadata=SENT, timeout=SECONDS_MAX
    )
    for number in range(200):
        text = b"message %d" % number
        outgoing.put(text)
        assert next(answers) == b"echo " + text
    outgoing.put(None)
    assert list(answers) == []
    check_metadata(answers, SECONDS_MAX)


def deadlines():
    call = method("unary_unary", "Slow")
    expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: call(b"", timeout=4))


def stream_deadlines():
    answers = method("unary_stream", "Watch")(b"", timeout=8)
    assert next(answers) == b"0"
    expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: list(answers))


def cut():
    """The time that the sidecar allows is shorter than that of the client, which still has plenty."""
    call = method("unary_unary", "Slow")
    expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: call(b"", timeout=SECONDS_MAX))


def cancelled():
    answers = method("unary_stream", "Watch")(b"", timeout=SECONDS_MAX)
    assert next(answers) == b"0"
    answers.cancel()
    expect(grpc.StatusCode.CANCELLED, lambda: list(answers))


def retried():
    for fails in range(3):
        metadata = (("x-key", f"retried {fails}"),)
        answer, call = method("unary_unary", "Flaky").with_call(
            b"%d" % fails, metadata=metadata, timeout=SECONDS_MAX
        )
        assert answer == b"attempt %d" % (fails + 1)
        assert dict(call.trailing_metadata())["x-attempt"] == str(fails + 1)
        metadata = (("x-key", f"retried stream {fails}"),)
        answers = method("unary_stream", "FlakyStream")(
            b"%d" % fails, metadata=metadata, timeout=SECONDS_MAX
        )
        assert list(answers) == [b"attempt %d" % (fails + 1)]
        assert dict(answers.initial_metadata())["x-initial"] == "sent"


def given_up():
    """It fails more often than there are attempts: the last failure is passed on as it is."""
    call = method("unary_unary", "Flaky")
    metadata = (("x-key", "given up"),)
    error = expect(
        grpc.StatusCode.UNAVAILABLE, lambda: call(b"9", metadata=metadata, timeout=SECONDS_MAX)
    )
    assert error.details() == "not yet, 3", error
    assert dict(error.trailing_metadata())["x-attempt"] == "3"


def broke():
    """There is no budget: the first failure is passed on as it is."""
    call = method("unary_unary", "Flaky")
    metadata = (("x-key", "broke"),)
    error = expect(
        grpc.StatusCode.UNAVAILABLE, lambda: call(b"9", metadata=metadata, timeout=SECONDS_MAX)
    )
    assert error.details() == "not yet, 1", error


with grpc.insecure_channel(sys.argv[1]) as channel:
    for scenario in sys.argv[2:]:
        globals()[scenario]()
        print(f"{scenario} ok")
