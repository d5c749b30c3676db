"""The fixture ``broken_path``, as a test suite uses it."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def test_a_broken_path_for_a_client(pytester: pytest.Pytester, echo_port: int) -> None:
    pytester.makepyfile(
        f"""
        import socket

        def talk(path, data):
            with socket.create_connection((path.host, path.port), timeout=10) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                received = b""
                while data := client.recv(100):
                    received += data
            return received

        def test_faults(broken_path):
            path = broken_path("iac-swallowed", "cr-to-lf", target="127.0.0.1:{echo_port}")
            assert talk(path, b"a\\xff\\r") == b"a\\n"
            assert path.acted() == [
                "connection 1: iac-swallowed: removed 1 byte at 1: ff",
                "connection 1: cr-to-lf: replaced 1 byte at 1: 0d with 0a",
            ]

        def test_the_echo_that_is_built_in(broken_path):
            right, wrong = broken_path(), broken_path("trailer=2e")
            assert (talk(right, b"a"), talk(wrong, b"a")) == (b"a", b"a.")
            assert str(right) == f"127.0.0.1:{{right.port}}"
            assert right.acted() == []
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)
