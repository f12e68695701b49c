"""A TCP port that passes everything on to another, and counts connections."""

import contextlib
import socket
import threading


class Forwarder:
    """Listens on a free port of this machine until it is closed.

    Args:
        port: Where it passes everything on to.

    Attributes:
        port: Where it listens.
        count: How many connections there have been.
        open: How many there are.
    """

    def __init__(self, port):
        self._to, self.count, self.open = port, 0, 0
        self._listening = socket.create_server(("localhost", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # To close alone does not wake the thread that waits in `accept`.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:  # closed
                return
            self.count += 1
            self.open += 1
            far = socket.create_connection(("localhost", self._to))
            for pair in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source, target, is_near):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()
        self.open -= is_near
