"""A program of the lab: a web or echo server in Python, in one process.

Its only argument is the task in JSON: "model" (asyncio: one thread for all connections; threads:
two threads and a write buffer for each), "protocol" (web or echo), "address", "port", "documents"
and "store". The web server answers GET below the documents, and stores PUT /store/NAME. All that
is sent follows from what is received, so that primary and replica send the same.
"""

import asyncio
import json
import os
import queue
import socket
import sys
import threading

BLOCK = 64 * 1024
# What a connection holds at most of what is to be sent.
MAX_WAITING = 16
MAX_HEAD = 16 * 1024


class BadRequest(Exception):
    """The client sends something that is no request."""


class Echo:
    """What an echo server sends for what it receives."""

    def receive(self, data):
        yield data


class Web:
    """What a web server sends for what it receives: HTTP/1.1, one request after the other."""

    def __init__(self, documents, store):
        self.documents = documents
        self.store = store
        self.pending = bytearray()
        self.file = None
        # Bytes of the body that are still to come: None outside of a body.
        self.left = None
        self.chunked = False

    def receive(self, data):
        self.pending += data
        while True:
            if self.left is None:
                end = self.pending.find(b"\r\n\r\n")
                if end < 0:
                    if len(self.pending) > MAX_HEAD:
                        raise BadRequest("too long")
                    return
                head = bytes(self.pending[:end]).decode("latin-1")
                del self.pending[: end + 4]
                yield from self.answer(head)
            elif self.take_body():
                self.file.close()
                self.left = None
                yield reply("201 Created", 0)
            else:
                return

    def answer(self, head):
        """Answers a GET, or begins with the body of a PUT."""
        request, *lines = head.split("\r\n")
        method, path, *_ = request.split(" ") + [""]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        name = os.path.basename(path)
        if method == "PUT" and path == f"/store/{name}":
            self.file = open(os.path.join(self.store, name), "wb")
            self.chunked = fields.get("transfer-encoding") == "chunked"
            self.left = 0 if self.chunked else int(fields["content-length"])
            return
        if method != "GET":
            raise BadRequest(request)
        try:
            document = open(os.path.join(self.documents, name), "rb")
        except OSError:
            yield reply("404 Not Found", 0)
            return
        with document:
            yield reply("200 OK", os.fstat(document.fileno()).st_size)
            while block := document.read(BLOCK):
                yield block
        if fields.get("connection") == "close":
            yield None

    def take_body(self):
        """Stores what is there of the body; whether that was its end."""
        if not self.chunked:
            self.take()
            return self.left == 0
        while True:
            # A chunk and the line end behind it, RFC 9112 section 7.1.
            if self.left > 2:
                self.take(2)
            if self.left > 2 or len(self.pending) < self.left:
                return False
            del self.pending[: self.left]
            self.left = 0
            end = self.pending.find(b"\r\n")
            if end < 0:
                return False
            size = int(bytes(self.pending[:end]), 16)
            if size == 0 and len(self.pending) < end + 4:
                return False
            del self.pending[: end + (4 if size == 0 else 2)]
            if size == 0:
                return True
            self.left = size + 2

    def take(self, behind=0):
        """Stores bytes of the body, which ends `behind` bytes before what is awaited."""
        part = self.pending[: self.left - behind]
        self.file.write(part)
        del self.pending[: len(part)]
        self.left -= len(part)


def reply(status, length):
    return f"HTTP/1.1 {status}\r\nServer: lab\r\nContent-Length: {length}\r\n\r\n".encode()


def connection(task):
    return Echo() if task["protocol"] == "echo" else Web(task["documents"], task["store"])


async def serve_asyncio(task, listener):
    async def serve(reader, writer):
        service = connection(task)
        try:
            while data := await reader.read(BLOCK):
                for block in service.receive(data):
                    if block is None:
                        return
                    writer.write(block)
                    await writer.drain()
        except (OSError, BadRequest) as error:
            print(error, file=sys.stderr)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, sock=listener, backlog=1024)
    await server.serve_forever()


def serve_threads(task, listener):
    def write(conn, blocks):
        with conn:
            try:
                while (block := blocks.get()) is not None:
                    conn.sendall(block)
            except OSError as error:
                print(error, file=sys.stderr)
                # Whoever waits for room must not do so for ever.
                while blocks.get() is not None:
                    pass

    def serve(conn, blocks):
        service = connection(task)
        try:
            while data := conn.recv(BLOCK):
                for block in service.receive(data):
                    if block is None:
                        return
                    blocks.put(block)
        except (OSError, BadRequest) as error:
            print(error, file=sys.stderr)
        finally:
            blocks.put(None)

    listener.listen(1024)
    while True:
        conn, _ = listener.accept()
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        blocks = queue.Queue(MAX_WAITING)
        for work in (serve, write):
            threading.Thread(target=work, args=(conn, blocks), daemon=True).start()


def main():
    task = json.loads(sys.argv[1])
    family = socket.AF_INET6 if ":" in task["address"] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((task["address"], task["port"]))
    if task["model"] == "asyncio":
        asyncio.run(serve_asyncio(task, listener))
    else:
        serve_threads(task, listener)


main()
