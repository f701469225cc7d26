"""What a TLS connection costs that nothing is done with: a loop that accepts, and waits.

python -m benchmarks.idle_tls PORT CERT KEY
"""

from __future__ import annotations

import asyncio

from .bare_h2 import main

if __name__ == "__main__":
    main(asyncio.Protocol)
