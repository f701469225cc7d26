"""What an HTTP/2 peer may expect: of each response, and of the connection's window."""

from __future__ import annotations

from dataclasses import dataclass, field

from h2.connection import H2Connection
from h2.errors import ErrorCodes

from tests.boundary.plans import PLANNED, Plan


@dataclass
class Request:
    """One stream, as its client knows it."""

    id: int
    plan: Plan
    path: str
    head_only: bool
    #: Body bytes still to be sent, whose Content-Length may have been announced.
    left: int
    length: int | None
    sent: bytearray = field(default_factory=bytearray, repr=False)
    body_ended: bool = False
    reset_by_us: bool = False
    #: Something happened after which no certain response is due.
    disturbed: bool = False
    status: int | None = None
    received: bytearray = field(default_factory=bytearray, repr=False)
    ended: bool = False
    reset_code: int | None = None

    @property
    def over(self) -> bool:
        whole = self.ended and self.body_ended
        return whole or self.reset_code is not None or self.reset_by_us


def check_window(client: H2Connection, server: H2Connection) -> None:
    """All inbound credit of the connection is accounted for.

    h2 tells the peer of processed bytes only from half a window on; until
    then they are neither in the window nor lost. Less than half a window may
    be held back in this way, and both sides agree on the rest.
    """
    manager = server._inbound_flow_control_window_manager
    held_back = manager._bytes_processed
    assert manager.current_window_size + held_back == manager.max_window_size
    assert held_back <= manager.max_window_size // 2
    assert client.outbound_flow_control_window == manager.current_window_size


def check_request(request: Request, certain: bool) -> None:
    """The response is what the plan has produced: whole, in order, and with the right end.

    :param certain: False where the connection was cut, so that only its order is.
    """
    plan = request.plan
    assert bytes(request.sent).startswith(plan.read), "the body was not read in order"
    sound = plan.completed and not plan.shortfall
    expected = b"" if request.head_only else bytes(plan.produced)
    if request.status == 200:
        assert expected.startswith(request.received), "the response is out of order"
    if request.reset_by_us or request.disturbed or not certain:
        return
    seen = (request.status, request.ended, request.reset_code)
    whole = bytes(request.received) == expected
    if not plan.started:
        fine = request.reset_code == ErrorCodes.REFUSED_STREAM
    elif sound or (plan.completed and request.head_only):
        fine = whole and seen in ((200, True, None), (200, True, ErrorCodes.NO_ERROR))
    elif plan.completed or plan.produced:
        fine = whole and request.reset_code == ErrorCodes.INTERNAL_ERROR
    else:
        fine = isinstance(plan.error, PLANNED) and seen[:2] == (500, True)
    assert fine, (request, len(request.received), len(expected))
