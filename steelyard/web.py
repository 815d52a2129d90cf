"""The web process: uvicorn on one port, or on a socket that the launcher opened and keeps open across restarts."""

import argparse
import socket
import sys

import uvicorn


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m steelyard.web", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, help="an inherited listening socket")
    options = parser.parse_args(argv)
    config = uvicorn.Config(
        "steelyard.asgi:application",
        host=options.host,
        port=options.port,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # it would believe whatever a client writes; annotator.requests counts from the right
        timeout_graceful_shutdown=3,
        ws_max_size=64 * 1024,
        ws_per_message_deflate=False,  # pokes are 100 bytes; compressing them costs more than it saves
        server_header=False,
    )
    sockets = None if options.fd is None else [socket.socket(fileno=options.fd)]
    server = uvicorn.Server(config)
    server.run(sockets=sockets)
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
