"""A client of SOCKS5's UDP ASSOCIATE, for the end-to-end tests.

Usage: socks-udp.py PROXY ECHO [USER:PASSWORD], where PROXY and ECHO are IPv4 HOST:PORT and ECHO
is a UDP echo server. It sends to the echo from several sockets and prints a JSON object: for each
socket, whether an answer came, and the reply to a request that names no port.
"""

import json
import socket
import struct
import sys

import socks  # PySocks

WAIT = 2  # seconds for an answer; the echo is near


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


proxy, echo = address(sys.argv[1]), address(sys.argv[2])
user, _, password = sys.argv[3].partition(":") if len(sys.argv) > 3 else ("", "", "")


def udp(host=None):
    """Returns a socket bound to an address, the proxy's by default."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((host or proxy[0], 0))
    s.settimeout(WAIT)
    return s


def exactly(conn, n):
    data = b""
    while len(data) < n:
        more = conn.recv(n - len(data))
        if not more:
            raise EOFError("the proxy closed the connection")
        data += more
    return data


def associate(port):
    """Requests an association; returns its connection, the reply and the relay's address."""
    conn = socket.create_connection(proxy, timeout=10)
    method = 2 if user else 0
    conn.sendall(bytes([5, 1, method]))
    assert exactly(conn, 2) == bytes([5, method])
    if user:
        name, secret = user.encode(), password.encode()
        conn.sendall(bytes([1, len(name)]) + name + bytes([len(secret)]) + secret)
        assert exactly(conn, 2) == b"\x01\x00"
    conn.sendall(b"\x05\x03\x00\x01\x00\x00\x00\x00" + struct.pack(">H", port))
    reply = exactly(conn, 10)
    return conn, reply[1], (socket.inet_ntoa(reply[4:8]), struct.unpack(">H", reply[8:])[0])


def ask(s, relay, fragment=0):
    """Reports whether the echo answers."""
    header = bytes([0, 0, fragment, 1]) + socket.inet_aton(echo[0]) + struct.pack(">H", echo[1])
    text = b"from " + str(s.getsockname()).encode()
    s.sendto(header + text, relay)
    try:
        return s.recv(1000) == header + text
    except TimeoutError:
        return False


def ask_with_pysocks():
    """Reports whether the echo answers a socket of PySocks, which names its port."""
    with socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.set_proxy(socks.SOCKS5, *proxy, username=user or None, password=password or None)
        s.settimeout(WAIT)
        s.sendto(b"from PySocks", echo)
        return s.recvfrom(1000) == (b"from PySocks", echo)


def main():
    got = {}
    own = udp()
    conn, _, relay = associate(own.getsockname()[1])
    got["named port"] = ask(own, relay)
    got["second socket"] = ask(udp(), relay)
    got["named port again"] = ask(own, relay)
    got["other address"] = ask(udp("127.0.0.2"), relay)
    got["named port after all"] = ask(own, relay)
    conn.close()

    conn, _, relay = associate(udp().getsockname()[1])
    got["another port than named"] = ask(udp(), relay)
    conn.close()

    conn, got["reply to port 0"], relay = associate(0)
    if got["reply to port 0"] == 0:
        first = udp()
        got["first socket"] = ask(first, relay)
        first.close()
        reopened = udp()
        got["reopened"] = ask(reopened, relay)
        got["fragment"] = ask(reopened, relay, fragment=1)
        got["after the fragment"] = ask(reopened, relay)
    conn.close()

    got["pysocks"] = ask_with_pysocks()
    print(json.dumps(got))


main()
