#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Real senders to the syslog source: rsyslog by UDP, TCP in both framings and TLS, and logger in both
formats by every socket. Every message arrives once, in order, with the right labels."""

import os
import socket
import subprocess
import time

import tap
from servers import installed, rsyslog
from syslogs import Certificates, Syslog
from tailrace import tempdir
from tap import is_, ok, test

HOST = socket.gethostname()
N = 5000


def sender(dir, action, more=""):
    """An rsyslogd that forwards what comes by its own unix socket."""
    server = rsyslog(f"""
        global(workDirectory="{dir}" maxMessageSize="64k" localHostname="sender1" {more})
        module(load="imuxsock" SysSock.Use="off")
        input(type="imuxsock" Socket="{dir}/in.sock" RateLimit.Interval="0" UseSysTimeStamp="off")
        main_queue(queue.type="LinkedList" queue.size="100000")
        {action}
        """, dir)
    tap.wait_until(lambda: os.path.exists(f"{dir}/in.sock"), 20, "rsyslogd listens")
    return server


def feed(dir, n=N):
    """n messages into that rsyslogd; returns what has to come out."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    tap.defer(s.close)
    s.connect(f"{dir}/in.sock")
    stamp = time.strftime("%b %e %H:%M:%S")
    texts = [f"message {i} " + "x" * (i % 700) + " \u00e9\u20ac" for i in range(n)]
    for i, t in enumerate(texts):
        s.send(f"<{8 * (i % 24) + i % 8}>{stamp} app{i % 3}[{i}]: {t}".encode())
    return texts


FACILITIES = ("kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock local0 "
              "local1 local2 local3 local4 local5 local6 local7").split()
SEVERITIES = "emerg alert crit err warning notice info debug".split()


def judge(a, texts, before=""):
    """before: what rsyslog puts in front of a message."""
    rows = a.wait_rows(len(texts), 60)
    is_(len(rows), len(texts), "rows")
    ok([r["message"] for r in rows] == [before + t for t in texts], "every message, in order")
    labels = [{"app": f"app{i % 3}", "facility": FACILITIES[i % 24], "host": "sender1",
               "severity": SEVERITIES[i % 8]} for i in range(len(texts))]
    wrong = [(r["labels"], want) for r, want in zip(rows, labels) if r["labels"] != want]
    is_(wrong[:3], [], "labels")
    fields = [{"peer": "127.0.0.1", "procid": str(i)} for i in range(len(texts))]
    wrong = [(r["fields"], want) for r, want in zip(rows, fields) if r["fields"] != want]
    is_(wrong[:3], [], "fields")
    now = time.strftime("%Y-%m-%d", time.gmtime())
    ok(all(r["timestamp"][:8] == now[:8] for r in rows), "times")


def forward(kind, options, template="RSYSLOG_ForwardFormat", before=""):
    dir = tempdir()
    a = Syslog(kind)
    sender(dir, f'action(type="omfwd" target="127.0.0.1" port="{a.port[kind]}" template="{template}" {options})')
    judge(a, feed(dir), before)
    is_(a.metrics().get("tailrace_component_errors_total"), 0, "errors")
    is_(a.stop(), 0, "exit code")


@test(limit=120)
def rsyslog_by_udp():
    forward("udp", 'protocol="udp"', "RSYSLOG_TraditionalForwardFormat")


@test(limit=120)
def rsyslog_by_tcp():
    forward("tcp", 'protocol="tcp"', "RSYSLOG_TraditionalForwardFormat")


@test(limit=120)
def rsyslog_by_tcp_octet_counted():
    forward("tcp", 'protocol="tcp" TCP_Framing="octet-counted"')


@test(limit=120)
def rsyslog_in_rfc5424():
    # Its template repeats the space that RFC 3164's message began with.
    forward("tcp", 'protocol="tcp" TCP_Framing="octet-counted"', "RSYSLOG_SyslogProtocol23Format", " ")


@test(limit=600)
def rsyslog_by_tls_with_a_client_certificate():
    installed("rsyslog-tls")
    dir, certs = tempdir(), Certificates()
    cert, key = certs.make("server")
    mine, mine_key = certs.make("client")
    a = Syslog("tls", options=f"    tls: {{cert: {cert}, key: {key}, ca: {certs.ca}, client_auth: required}}")
    more = (f'defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{certs.ca}" '
            f'defaultNetstreamDriverCertFile="{mine}" defaultNetstreamDriverKeyFile="{mine_key}"')
    sender(dir, f'action(type="omfwd" target="127.0.0.1" port="{a.port["tls"]}" protocol="tcp" '
                'TCP_Framing="octet-counted" template="RSYSLOG_ForwardFormat" StreamDriver="ossl" '
                'StreamDriverMode="1" StreamDriverAuthMode="x509/name" '
                'StreamDriverPermittedPeers="localhost")', more)
    judge(a, feed(dir))
    is_(a.stop(), 0, "exit code")


@test(limit=120)
def rsyslog_goes_on_after_the_agent_was_away():
    """What rsyslog still has it sends when the agent is back."""
    dir = tempdir()
    a = Syslog("tcp", dir=tempdir())
    sender(dir, f'action(type="omfwd" target="127.0.0.1" port="{a.port["tcp"]}" protocol="tcp" '
                'TCP_Framing="octet-counted" template="RSYSLOG_ForwardFormat" '
                'action.resumeRetryCount="-1" action.resumeInterval="1")')
    texts = feed(dir, 100)
    a.wait_rows(100)
    is_(a.stop(), 0, "exit code")
    port = a.port["tcp"]
    late = feed(dir, 100)
    b = AgentOn(port)
    b.wait_until(lambda: b.stdout().count(b"\n") >= 99, 60, lambda: f"{b.stdout().count(bytes([10]))} rows")
    # rsyslog learns of the closed connection by the failure of what it sent last.
    got = b.messages()
    ok(got == late[-len(got):], "in order")
    is_(b.stop(), 0, "exit code")
    is_(len(texts), 100, "before")


class AgentOn(Syslog):
    """On a port that is known."""

    def __init__(self, port):
        self.known = port
        super().__init__("tcp")

    def _config(self, config, api):
        config = config.replace(f":{self.port['tcp']}", f":{self.known}")
        super()._config(config, api)


def logger(*args):
    r = subprocess.run(["logger", *args], capture_output=True, text=True)
    tap.need(r.returncode == 0, f"logger {args}: {r.stderr}")


@test
def logger_in_both_formats_by_every_socket():
    a = Syslog("udp", "tcp", "unix", "unix-stream")
    where = {"udp": ("-d", "-n", "127.0.0.1", "-P", str(a.port["udp"])),
             "tcp": ("-T", "-n", "127.0.0.1", "-P", str(a.port["tcp"])),
             "counted": ("-T", "--octet-count", "-n", "127.0.0.1", "-P", str(a.port["tcp"])),
             "unix": ("-u", a.path["unix"]),
             "unix-stream": ("-u", a.path["unix-stream"])}
    want = {}
    for kind, args in where.items():
        for form in ("--rfc3164", "--rfc5424"):
            text = f"{kind} {form} caf\u00e9"
            logger(*args, form, "-t", "myapp", "--id=77", "-p", "local3.err", "--", text)
            want[text] = {"app": "myapp", "facility": "local3", "host": HOST, "severity": "err"}
    logger("-u", a.path["unix"], "-t", "myapp", "--id=77", "-p", "local3.err", "as /dev/log")
    want["as /dev/log"] = {"app": "myapp", "facility": "local3", "host": HOST, "severity": "err"}
    logger(*where["tcp"], "--rfc5424", "-t", "sd", "--sd-id", "zoo@123", "--sd-param", 'tiger="hungry"',
           "--msgid", "M1", "-p", "user.notice", "structured")
    rows = a.wait_rows(len(want) + 1)
    structured = next(r for r in rows if r["message"] == "structured")
    is_((structured["fields"]["sd.zoo@123.tiger"], structured["fields"]["msgid"]), ("hungry", "M1"),
        "structured data")
    got = {r["message"]: r for r in rows if r is not structured}
    is_({m: r["labels"] for m, r in got.items()}, want, "labels")
    is_({r["fields"]["procid"] for r in got.values()}, {"77"}, "procid")
    is_(a.metrics().get("tailrace_component_errors_total"), 0, "errors")
    is_(a.stop(), 0, "exit code")


tap.main()
