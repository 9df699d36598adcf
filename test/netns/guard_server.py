"""A TCP server that does to each connection what its client's first line says, and dies as it is told.

guard_server.py PORT [--workers N] [--no-accept]. Prints the numbers of the processes that serve once it listens.
"""
import os
import resource
import signal
import socket
import sys
import threading
import time

held = []


def serve(connection):
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        line += byte
    order, _, argument = line.decode().strip().partition(" ")
    if order == "bulk":
        try:
            while True:
                connection.sendall(bytes(65536))
        except OSError:
            pass
    elif order == "say":
        connection.sendall(argument.encode())
        connection.close()
    elif order == "shut":
        connection.sendall(argument.encode())
        connection.shutdown(socket.SHUT_WR)
        held.append(connection)
    elif order == "exit":
        os._exit(int(argument))
    elif order == "hold":
        connection.sendall(b"held")
        held.append(connection)
    elif order == "pid":
        connection.sendall(str(os.getpid()).encode())
        held.append(connection)


def accept(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def main():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    port = int(sys.argv[1])
    # One socket for both IP versions, as servers usually have it.
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2)
    workers = int(sys.argv[sys.argv.index("--workers") + 1]) if "--workers" in sys.argv else 0
    pids = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            accept(listener)
        pids.append(pid)
    # At one stroke: nobody reads a second part.
    os.write(1, (" ".join(map(str, pids or [os.getpid()])) + "\n").encode())
    if workers or "--no-accept" in sys.argv:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            time.sleep(1000)
    accept(listener)


main()
