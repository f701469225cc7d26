"""Serve the demonstration application over HTTP/2 and TLS, on this machine only.

    gunicorn -c examples/gunicorn.conf.py

Then open https://localhost:8443/. As a start for your own configuration: put
your application into ``wsgi_app``, your certificate into ``certfile`` and
``keyfile``, and read on. Every setting says why it is here and when to change
it; those not here have sound defaults.
"""

import os
import sys

from gunicorn_h2 import devcert

# --- what is served -------------------------------------------------------------

# Your application: "module:callable". An application given on the command line
# is preferred to this one.
wsgi_app = "gunicorn_h2.demo:app"

worker_class = "gunicorn_h2.H2Worker"

# Loopback, because this file comes with a certificate for localhost. To be
# reached from elsewhere: "0.0.0.0:8443", or "[::]:8443" for IPv6 as well.
bind = "127.0.0.1:8443"

# --- TLS --------------------------------------------------------------------------

# A browser speaks HTTP/2 over TLS only. Name your certificate (with its chain)
# and key in the environment, or write their paths here and drop the rest.
certfile = os.environ.get("TLS_CERTFILE") or None
keyfile = os.environ.get("TLS_KEYFILE") or certfile
if certfile is None:
    # One PEM file holds both. Clients will not trust it until told to.
    try:
        certfile = keyfile = devcert.ensure()
    except devcert.DevCertError as error:
        sys.exit(f"TLS_CERTFILE is not set, and {error}")

# Behind a proxy that ends TLS, leave certfile and keyfile out: the worker then
# speaks HTTP/2 with prior knowledge, and HTTP/1.1, over cleartext. Say whose
# X-Forwarded-Proto is to be believed, which is what makes wsgi.url_scheme https:
# forwarded_allow_ips = "10.0.0.5"

# --- processes and threads --------------------------------------------------------

# Processes. Python code in one process uses about one core, so begin with the
# number of cores. Each holds the application in memory.
workers = 2

# Requests that run at the same time in one process. A browser asks for many
# things at once over one connection, and those without a thread wait. Raise it
# for an application that waits a lot (on a database, on other services), lower
# it for one that only computes.
threads = 16

# Open connections in one process, most of them idle. Needs file descriptors to
# match (ulimit -n).
worker_connections = 1000

# --- time -------------------------------------------------------------------------

# A worker whose event loop gives no sign for this long is killed and replaced.
# It does not limit how long a request may take.
timeout = 30

# What a stopping worker gives to requests that still run. Less than whatever
# your supervisor waits before it kills (systemd: TimeoutStopSec, 90 s;
# Kubernetes: terminationGracePeriodSeconds, 30 s).
graceful_timeout = 25

# Idle connections are closed after this long: h2_idle_timeout for HTTP/2,
# keepalive for HTTP/1.1, where Gunicorn's default of 2 s suits only few. Behind
# a proxy, more than the proxy keeps its own idle connections, so that it never
# sends a request into a connection that is being closed.
h2_idle_timeout = 120
keepalive = 75

# A request is given up when its body has stalled for this long, and a response
# when the client has taken nothing of it. They free the thread that waits.
h2_body_timeout = 30
h2_write_timeout = 60

# --- upkeep -------------------------------------------------------------------------

# Replace a worker after about this many requests, if the application leaks
# memory. The jitter keeps workers from being replaced all at once.
# max_requests = 10_000
# max_requests_jitter = 1_000

# Where a worker notes that it is alive. On a disk, writing can block; memory
# does not.
if os.path.isdir("/dev/shm"):
    worker_tmp_dir = "/dev/shm"

# The access log, to standard output. None turns it off, where the proxy in
# front has one.
accesslog = "-"

# --- HTTP/2 -------------------------------------------------------------------------

# Streams that one client may have open at once. Those beyond the free threads
# wait, those beyond this number are refused.
http2_max_concurrent_streams = 100
