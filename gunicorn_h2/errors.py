"""What an application may see raised by its `wsgi.input`, its `write`, or its iteration.

They are public, as names of the package. Raised on pool threads; made on either side.
"""

from __future__ import annotations


class ClientDisconnected(OSError):
    """The peer has gone or has cancelled the request: nothing can be read or written any more."""


class DeadlineExceeded(ClientDisconnected):
    """The request has run for too long (`h2_request_timeout`): its client was told so."""


class RequestTimeout(OSError):
    """The peer sent nothing of the body that the application waits for (`h2_body_timeout`)."""
