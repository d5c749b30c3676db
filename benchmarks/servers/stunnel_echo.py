"""stunnel in front of an echo server; it ends with stunnel.

usage: stunnel_echo.py PROGRAM FILE

PROGRAM prints the port that it listens on. FILE has a private key and a certificate.
"""

import socket
import subprocess
import sys
import time

CONFIGURATION = """
foreground = yes
syslog = no
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[echo]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = {pem}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve(program: str, pem: str) -> int:
    echo = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    assert echo.stdout is not None
    behind = echo.stdout.readline().rpartition(":")[2].strip()
    port = free_port()
    text = CONFIGURATION.format(port=port, behind=behind, pem=pem)
    with subprocess.Popen(["stunnel", "-fd", "0"], stdin=subprocess.PIPE, text=True) as stunnel:
        assert stunnel.stdin is not None
        stunnel.stdin.write(text)
        stunnel.stdin.close()
        while stunnel.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                print(f"listening on 127.0.0.1:{port}", flush=True)
                break
    return stunnel.returncode


if __name__ == "__main__":
    sys.exit(serve(*sys.argv[1:]))
