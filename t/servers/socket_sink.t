#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket sink and a real rsyslog: by TLS with certificates on both sides, TCP in both framings and
UDP, every message arrives with everything that belongs to it."""

import os
import socket

import events
import tap
from peers import make_cert
from servers import installed, rsyslog
from tailrace import Agent, free_port, tempdir

N = 20000
OUT = ('template(name="all" type="string" string="%pri%|%timereported:::date-rfc3339%|%hostname%|%app-name%|'
       '%procid%|%msgid%|%structured-data%|%msg%\\n")')


class Receiver:
    """An rsyslogd with that input, and what it wrote."""

    def __init__(self, inputs, more=""):
        self.dir = tempdir()
        self.out = f"{self.dir}/out"
        self.config = f"""
            global(workDirectory="{self.dir}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"
                   {more})
            {inputs}
            {OUT}
            main_queue(queue.type="LinkedList" queue.size="200000")
            action(type="omfile" file="{self.out}" template="all" ioBufferSize="64k" flushInterval="1")
            """
        self.start()

    def start(self):
        self.server = rsyslog(self.config, self.dir)

    def listens(self, port):
        def there():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False
        tap.wait_until(there, 20, "rsyslogd listens")
        return self

    def lines(self):
        try:
            with open(self.out, encoding="utf-8") as f:
                return f.read().split("\n")[:-1]
        except FileNotFoundError:
            return []

    def wait(self, n, deadline=60):
        tap.wait_until(lambda: len(self.lines()) >= n, deadline,
                       lambda: f"{n} messages; {len(self.lines())} came")
        return self.lines()


def event(i):
    ns = (1795222923 * 10**6 + i) * 1000
    return events.log(f"message {i} " + "x" * (i % 1500) + " \u00e9\u20ac \\ \" ]",
                      {"host": "web1", "app": f"app{i % 3}", "facility": f"local{i % 8}",
                       "severity": ("err", "info", "debug")[i % 3], "zone": 'a"b\\c]d'},
                      ns=ns, procid=i, status=i % 600)


def expected(i):
    pri = (16 + i % 8) * 8 + (3, 6, 7)[i % 3]
    text = f"message {i} " + "x" * (i % 1500) + " \u00e9\u20ac \\ \" ]"
    stamp = f"{1795222923 * 10**6 + i:d}"
    second, micros = int(stamp[:10]), stamp[10:]
    return (f'{pri}|2026-11-21T01:02:{second - 1795222923 + 3:02d}.{micros}Z|web1|app{i % 3}|{i}|-|'
            f'[tailrace@32473 status="{i % 600}" zone="a\\"b\\\\c\\]d"]|{text}')


def run(receiver, address, options="", n=N):
    dir = tempdir()
    path = f"{dir}/in.ndjson"
    events.write(path, *(event(i) for i in range(n)))
    a = Agent(f"""
        labels: {{}}
        sources:
          in: {{type: events, path: "{path}"}}
        sinks:
          out: {{type: socket, inputs: [in], address: "{address}", encoding: rfc5424{options}}}
        """, dir=dir, env=events.ENV)
    got = receiver.wait(n)
    tap.is_(len(got), n, "messages")
    wrong = [(g, w) for g, w in zip(got, (expected(i) for i in range(n))) if g != w]
    tap.is_(wrong[:2], [], "every message, in order, with all that belongs to it")
    return a, path


@tap.test(limit=300)
def tls_with_certificates_on_both_sides():
    """octet-counted; then rsyslog is restarted, and the connection is made anew for what comes after."""
    dir, port = tempdir(), free_port()
    program = installed("rsyslog-tls")
    tap.need(program, "rsyslog with TLS")
    ca = make_cert(dir, "Authority", "DNS:ca.example", name="ca")
    cert = make_cert(dir, "loghost", ca=ca)
    own = make_cert(dir, "agent7", ca=ca, name="client")
    receiver = Receiver(f"""
        module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1"
               StreamDriver.AuthMode="x509/certvalid" MaxFrameSize="200000")
        input(type="imtcp" port="{port}" address="127.0.0.1" SupportOctetCountedFraming="on")
        """, f'''DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="{ca[0]}"
                 DefaultNetstreamDriverCertFile="{cert[0]}" DefaultNetstreamDriverKeyFile="{cert[1]}"''')
    receiver.listens(port)
    options = f", tls: {{ca: {ca[0]}, cert: {own[0]}, key: {own[1]}, server_name: localhost}}"
    a, path = run(receiver, f"tls://127.0.0.1:{port}", options)
    receiver.server.stop()
    receiver.start()
    receiver.listens(port)
    events.write(path, *(event(i) for i in range(N, N + 100)))
    tap.is_(receiver.wait(N + 100)[N:], [expected(i) for i in range(N, N + 100)], "after a restart")
    tap.is_(a.stop(), 0, "exit code")


@tap.test(limit=120)
def tcp_in_octet_counting():
    port = free_port()
    receiver = Receiver(f'module(load="imtcp" MaxFrameSize="200000")\n'
                        f'input(type="imtcp" port="{port}" address="127.0.0.1")').listens(port)
    a, _ = run(receiver, f"tcp://localhost:{port}")
    tap.is_(a.stop(), 0, "exit code")


@tap.test(limit=120)
def tcp_in_lines():
    port = free_port()
    receiver = Receiver(f'module(load="imtcp" MaxFrameSize="200000")\n'
                        f'input(type="imtcp" port="{port}" address="127.0.0.1")').listens(port)
    a, _ = run(receiver, f"tcp://127.0.0.1:{port}", ", framing: newline")
    tap.is_(a.stop(), 0, "exit code")


@tap.test(limit=120)
def udp():
    port = free_port(socket.SOCK_DGRAM)
    receiver = Receiver(f'module(load="imudp" BatchSize="256")\n'
                        f'input(type="imudp" port="{port}" address="127.0.0.1" rcvbufSize="16m")')

    def bound():
        with open("/proc/net/udp", encoding="ascii") as f:
            return f":{port:04X} " in f.read()
    tap.wait_until(bound, 20, "rsyslogd listens")
    a, _ = run(receiver, f"udp://127.0.0.1:{port}", n=1000)
    tap.is_(a.stop(), 0, "exit code")


@tap.test(limit=120)
def a_unix_socket():
    path = f"{tempdir()}/log"
    receiver = Receiver(f'module(load="imuxsock" SysSock.Use="off")\n'
                        f'input(type="imuxsock" Socket="{path}" UseSpecialParser="off" ParseHostname="on" '
                        'UseSysTimeStamp="off" IgnoreTimestamp="off" RateLimit.Interval="0")')
    tap.wait_until(lambda: os.path.exists(path), 20, "rsyslogd listens")
    a, _ = run(receiver, f"unix://{path}")
    tap.is_(a.stop(), 0, "exit code")


tap.main()
