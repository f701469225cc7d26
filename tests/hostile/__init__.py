"""Broken and hostile peers against a real server, one test or more for each row below.

Around every recipe lies a watch (`watch.py`): meanwhile fresh connections are answered,
with a 99th percentile below 250 ms or ten times the idle figure; after it the worker is
the same process, holds within 5 MB what it held before and as many descriptors, every
thread of its pool is free, no log line is longer than 1 KB, none is a traceback (but where
the application fails), and none is at WARNING or above for a peer that merely vanishes.

Timers are set to one second (`conftest.py`). ``GUNICORN_TESTS_LONG=1`` has the heavy rows
run in full. What was measured goes into a file with::

    GUNICORN_TESTS_HOSTILE_REPORT=report.txt python -m pytest tests/hostile

===  ==============================================================================
row  what the peer does, and what is held
===  ==============================================================================
1    is silent, or stops within the handshake: closed at the handshake timeout
2    never acknowledges SETTINGS: GOAWAY(SETTINGS_TIMEOUT) at the handshake timeout
3    wrong preface: closed over TLS, HTTP/1.1's 400 in cleartext
4    header block without an end: calmed down at the header timeout, no thread held
5    announces oversize frames: GOAWAY(FRAME_SIZE_ERROR) on the ninth byte, < 64 KB held
6    SETTINGS of more than 32 entries, or of unknown ids: calmed down; nothing is kept
7    floods of frames that carry nothing: calmed down within budget, answers < 64 KB
8    a header table of 4 GB: the encoder keeps to 4 KB, the last requests cost the same
9    window overflow, increment 0: as RFC 9113 section 6.9 says
10   endless and oversize header blocks: calmed down, < 256 KB held, < 50 ms of CPU
11   another frame inside a header block: GOAWAY(PROTOCOL_ERROR)
12   header blocks that cannot be decoded: GOAWAY(COMPRESSION_ERROR)
13   HPACK bombs: 431, < 2 MB a connection
14   rapid reset: calmed down, few calls of the application; a browser's 200 cancels pass
15   provoked resets: the same budget
16   streams beyond the limit: RST_STREAM(REFUSED_STREAM), and they are counted
17   reads no response: threads free at once up to the high-water mark, else at the timeout
18   never reads its socket: < 512 KB buffered, closed at the write timeout
19   stalls in bodies: 408 at the body timeout, threads free
20   DATA after a reset, beyond the window, padded: dropped, an error, taken
21   resets streams with unread bodies: no window is lost
22   a body goes on after the response: dropped and credited, then RST_STREAM(NO_ERROR)
23   Content-Length and body disagree: 400 or a reset; no short body is taken for whole
24   malformed fields: 400 or a reset of that stream
25   underscores and forwarding fields: believed as by Gunicorn's gthread
26   hosts that disagree: 400
27   paths that are none: 400
28   methods, schemes, CONNECT, :protocol: 400 or 501; a bare :scheme is not believed
29   wrong trailers: RST_STREAM(PROTOCOL_ERROR)
30   frames on streams where they do not fit: as RFC 9113 sections 5.1 and 6 say
31   GOAWAY with requests in flight: responses complete, then close
32   leaves at any point: nothing is left of it
33   tens of thousands of requests, or of connections: memory stays flat
34   idle connections: < 64 KB each (and OpenSSL's share); none beyond the limit
35   dead peer: found by PING
36   TLS 1.1: refused; no ALPN, or http/1.1: HTTP/1.1
37   the application fails: 500 or a reset of that stream, logged once, nothing leaks
38   random input: no exception
===  ==============================================================================

*Calmed down* is GOAWAY(ENHANCE_YOUR_CALM) and a closed connection.
"""
