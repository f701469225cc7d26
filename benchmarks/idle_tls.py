"""What a TLS connection costs that nothing is done with: a loop that accepts, and waits.

python -m benchmarks.idle_tls PORT CERT KEY LOOP

LOOP is asyncio or uvloop.
"""

from __future__ import annotations

import asyncio
import importlib
import sys

from .bare_h2 import serve

if __name__ == "__main__":
    port, cert, key, loop = sys.argv[1:]
    importlib.import_module(loop).run(serve(asyncio.Protocol, int(port), cert, key))
