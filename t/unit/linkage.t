#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An agent maps only what its configuration needs: no module, library or program is linked with
a library that DESIGN.md gives to others."""

import glob
import os
import re
import subprocess

# Who may link what; libraries that aren't named here may be linked by all.
OWNERS = {
    "libcurl": {"libtailrace-http.so", "sink_influxdb.so", "sink_loki.so"},
    "libtailrace-http": {"sink_influxdb.so", "sink_loki.so"},
    "libssl": {"libtailrace-tls.so"},
    "libcrypto": {"libtailrace-tls.so"},
    "libtailrace-tls": {"sink_socket.so", "source_syslog.so"},
    "libmicrohttpd": {"libtailrace-httpd.so"},
    "libtailrace-httpd": {"api.so", "sink_prometheus.so"},
    "libinotifytools": {"source_file.so"},
    "libdeflate": {"sink_influxdb.so"},
    "libsnappy": set(),  # the tests' alone
    "librdkafka": {"libtailrace-kafka.so", "sink_kafka.so", "source_kafka.so"},
    "libtailrace-kafka": {"sink_kafka.so", "source_kafka.so"},
}

top = os.environ.get("top_builddir", ".")
objects = [os.path.join(top, "t/bin/tailrace")]
objects += [os.path.join(top, ".libs", f"libtailrace{n}.so") for n in ("", "-http", "-httpd", "-kafka", "-tls")]
objects += sorted(glob.glob(os.path.join(top, "plugins/.all/*.so")))

print(f"1..{len(objects)}")
for i, path in enumerate(objects, 1):
    name = os.path.basename(path)
    dynamic = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True)
    needed = re.findall(r"\(NEEDED\).*\[(.*?)\.so", dynamic.stdout)
    bad = [lib for lib in needed if name not in OWNERS.get(lib.removesuffix("-gnutls"), {name})]
    good = dynamic.returncode == 0 and not bad
    print(f"{'' if good else 'not '}ok {i} - {name}")
    if not good:
        print(f"# {dynamic.stderr.strip()} links {bad} of {needed}")
