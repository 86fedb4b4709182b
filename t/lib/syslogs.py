# SPDX-License-Identifier: GPL-2.0-or-later
"""Syslog as tests send it, the agent that takes it, and what came of it: rows as the console writes them
in JSON."""

import json
import os
import socket
import ssl
import subprocess

import tap
from tailrace import Agent, free_port, tempdir

PRI = "<13>"


def counted(text):
    """An octet-counted frame."""
    data = text if isinstance(text, bytes) else text.encode()
    return b"%d %s" % (len(data), data)


def rfc5424(text, app="app", time="2026-11-21T12:00:00Z"):
    return f"{PRI}1 {time} h {app} - - - {text}"


class Syslog(Agent):
    """An agent with one syslog source `in` on the listeners given ("tcp", "udp", "tls", "unix",
    "unix-stream") and a console. Its addresses are in .port[kind] and .path[kind]."""

    def __init__(self, *kinds, options="", sink=None, more="", dir=None, **args):
        self.dir = dir or tempdir()
        self.port = {k: free_port(socket.SOCK_DGRAM if k == "udp" else socket.SOCK_STREAM)
                     for k in kinds if k in ("udp", "tcp", "tls")}
        self.path = {k: f"{self.dir}/{k}.sock" for k in kinds if k.startswith("unix")}
        listen = [f"{k}://127.0.0.1:{p}" for k, p in self.port.items()]
        listen += [f"{k}://{p}" for k, p in self.path.items()]
        sink = sink or "{type: console, inputs: [in], encoding: json, batch: {max_wait: 20ms}}"
        super().__init__(f"""\
timezone: UTC
{more}
sources:
  in:
    type: syslog
    listen: {json.dumps(listen)}
{options}
sinks:
  out: {sink}
""", dir=self.dir, **args)

    def connect(self, kind="tcp", timeout=20):
        s = socket.socket(socket.AF_UNIX if kind in self.path else socket.AF_INET)
        tap.defer(s.close)
        s.settimeout(timeout)
        s.connect(self.path[kind] if kind in self.path else ("127.0.0.1", self.port[kind]))
        return s

    def dgram(self, kind="udp"):
        s = socket.socket(socket.AF_UNIX if kind in self.path else socket.AF_INET, socket.SOCK_DGRAM)
        tap.defer(s.close)
        s.settimeout(20)
        s.connect(self.path[kind] if kind in self.path else ("127.0.0.1", self.port[kind]))
        return s

    def rows(self):
        """What has been written, in order."""
        out = self.stdout()
        return [json.loads(x) for x in out[:out.rfind(b"\n") + 1].splitlines()]

    def messages(self):
        return [r["message"] for r in self.rows()]

    def wait_rows(self, n, deadline=20.0):
        self.wait_until(lambda: self.stdout().count(b"\n") >= n, deadline,
                        lambda: f"{n} rows, not {self.stdout().count(bytes([10]))}")
        return self.rows()

    def wait_messages(self, want, deadline=20.0):
        self.wait_until(lambda: self.messages() == want, deadline,
                        lambda: f"{want}, not {self.messages()}")

    def discarded(self, reason):
        return self.metrics().get("tailrace_component_discarded_events_total", component_id="in",
                                  reason=reason)

    def kernel_drops(self):
        return self.metrics().get("tailrace_kernel_drops_total")


class Certificates:
    """An authority and what it signed, as files."""

    def __init__(self):
        self.dir = tempdir()
        self.ca = self._authority("ca")

    def _openssl(self, *args):
        r = subprocess.run(["openssl", *args], cwd=self.dir, capture_output=True, text=True)
        tap.need(r.returncode == 0, f"openssl {args[0]}: {r.stderr}")

    def _authority(self, name):
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "30", "-subj", f"/CN={name}")
        return f"{self.dir}/{name}.pem"

    def make(self, name, host="localhost", days=30, authority="ca"):
        """(certificate, key) of that name; days < 0: it has expired."""
        if authority != "ca" and not os.path.exists(f"{self.dir}/{authority}.pem"):
            self._authority(authority)
        with open(f"{self.dir}/{name}.ext", "w") as f:
            f.write(f"subjectAltName=DNS:{host},IP:127.0.0.1\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey",
                      f"{authority}.key", "-CAcreateserial", "-days", str(days), "-extfile",
                      f"{name}.ext", "-out", f"{name}.pem")
        return f"{self.dir}/{name}.pem", f"{self.dir}/{name}.key"

    def client(self, cert=None, name="localhost"):
        """A context of a client that trusts the authority."""
        c = ssl.create_default_context(cafile=self.ca)
        if cert:
            c.load_cert_chain(*cert)
        return c


# Passes the descriptors named on its command line as systemd does, from 3 on, to the program behind them.
AS_SYSTEMD = """
import os, sys
names, fds = sys.argv[1], sys.argv[2:]
n = names.count(":") + 1
high = [os.dup2(int(fd), 100 + i) for i, fd in enumerate(fds[:n])]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(n), LISTEN_FDNAMES=names)
os.execvp(fds[n], fds[n:])
"""


def as_systemd(names, *sockets):
    """An Agent's wrapper that passes it these sockets, which it must be given as fds too, under these
    names: NAME:NAME…"""
    return ("python3", "-c", AS_SYSTEMD, names, *(str(s.fileno()) for s in sockets))
