# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that isn't there: /proc, /sys and /run/udev below a directory, for the source `procfs` and for
node_exporter. Two disks, two sensors' chips, four processors of two cores."""

import os



def process(pid, name, state, threads):
    """/proc/PID/stat"""
    return f"{pid} ({name}) {state} 1 {pid} {pid} 0 -1 " + "9 " * 11 + f"{threads} " + "0 " * 31 + "0\n"


FILES = {
    "proc/stat": """\
cpu  4000 300 2000 90000 400 10 60 8 100 20
cpu0 1000 100 500 22000 100 4 20 2 40 5
cpu1 1000 100 500 23000 100 2 20 2 30 5
cpu2 1000 50 500 22500 100 2 10 2 20 5
cpu3 1000 50 500 22500 100 2 10 2 10 5
intr 123456 7 0 0 21
ctxt 654321
btime 1795000000
processes 4711
procs_running 3
procs_blocked 1
softirq 99 1 2 3 4 5 6 7 8 9 10
""",
    "proc/meminfo": """\
MemTotal:        8000000 kB
MemFree:         1000000 kB
MemAvailable:    6000000 kB
Buffers:          100000 kB
Cached:          4000000 kB
Active(anon):     700000 kB
HugePages_Total:       2
Hugepagesize:       2048 kB
DirectMap4k:       65536 kB
""",
    "proc/loadavg": "0.75 1.50 2.25 3/456 7890\n",
    "proc/diskstats": """\
   7       0 loop0 1 2 3 4 5 6 7 8 9 10 11
   8       0 sda 1000 20 64000 900 2000 30 128000 1800 2 1500 2700 10 1 800 40 50 60
   8       1 sda1 900 20 60000 800 1900 30 120000 1700 0 1400 2500 10 1 800 40 0 0
 253       0 dm-0 500 0 32000 450 600 0 48000 700 0 650 1150
""",
    "run/udev/data/b8:0": """\
S:disk/by-id/ata-Brook_2TB_BR0042
E:ID_ATA=1
E:ID_ATA_WRITE_CACHE=1
E:ID_ATA_WRITE_CACHE_ENABLED=0
E:ID_ATA_ROTATION_RATE_RPM=7200
E:ID_MODEL=Brook_2TB
E:ID_REVISION=B1
E:ID_SERIAL_SHORT=BR0042
E:ID_WWN=0x5000c500deadbeef
E:ID_PATH=pci-0000:00:1f.2-ata-1
""",
    "run/udev/data/b253:0": """\
E:DM_NAME=mill-race
E:DM_UUID=LVM-abcdef
E:DM_VG_NAME=mill
E:DM_LV_NAME=race
E:ID_FS_TYPE=ext4
E:ID_FS_USAGE=filesystem
E:ID_FS_UUID=0b7c
E:ID_FS_VERSION=1.0
""",
    "proc/net/dev": """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 5000 50 0 0 0 0 0 0 5000 50 0 0 0 0 0 0
  eth0: 9007199254740993 800 1 2 3 4 5 6 70000 700 7 8 9 10 11 12
veth-a:12 1 0 0 0 0 0 0 34 2 0 0 0 0 0 0
""",
    "sys/class/net/eth0/statistics/rx_nohandler": "13\n",
    "proc/net/netstat": """\
TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows TCPPureAcks
TcpExt: 1 2 3 4
IpExt: InNoRoutes InOctets OutOctets
IpExt: 5 6000 7000
""",
    "proc/net/snmp": """\
Ip: Forwarding DefaultTTL InReceives
Ip: 1 64 100
Tcp: RtoAlgorithm MaxConn ActiveOpens CurrEstab InSegs InErrs
Tcp: 1 -1 20 5 3000 2
Udp: InDatagrams NoPorts InErrors
Udp: 40 1 0
""",
    "proc/net/snmp6": """\
Ip6InReceives                   	10
Ip6InOctets                     	1000
Icmp6InMsgs                     	7
Udp6InDatagrams                 	3
""",
    "proc/net/sockstat": """\
sockets: used 321
TCP: inuse 10 orphan 1 tw 2 alloc 12 mem 3
UDP: inuse 4 mem 2
FRAG: inuse 0 memory 0
""",
    "proc/net/sockstat6": "TCP6: inuse 6\nUDP6: inuse 2\n",
    "proc/vmstat": "nr_free_pages 12345\npgpgin 100\npgpgout 200\npswpin 0\npgfault 5000\npgmajfault 7\noom_kill 1\n",
    "proc/pressure/cpu": "some avg10=0.10 avg60=0.20 avg300=0.30 total=1500000\n"
                         "full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
    "proc/pressure/io": "some avg10=0.10 avg60=0.20 avg300=0.30 total=2500000\n"
                        "full avg10=0.00 avg60=0.00 avg300=0.00 total=250000\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"
                            "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    "proc/sys/fs/file-nr": "1024\t0\t900000\n",
    "proc/sys/kernel/threads-max": "6000\n",
    "proc/sys/kernel/pid_max": "32768\n",
    # A name in brackets may look like anything.
    "proc/1/stat": process(1, "init", "S", 1),
    "proc/1/task/1/stat": process(1, "init", "S", 1),
    "proc/42/stat": process(42, "a) R (b", "D", 3),
    "proc/42/task/42/stat": process(42, "a) R (b", "D", 3),
    "proc/42/task/43/stat": process(43, "w", "R", 3),
    "proc/42/task/44/stat": process(44, "w", "S", 3),
    "proc/1/mounts": """\
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
/dev/mapper/mill-race /srv/mill\\040race ext4 ro,noatime 0 0
mill:/export /srv/share nfs4 rw,vers=4.2 0 0
mill:/export /srv/share nfs4 rw,vers=4.2 0 0
tmpfs /run tmpfs rw 0 0
/dev/sdb1 /gone xfs rw 0 0
""",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/devices/system/cpu/isolated": "1,3\n",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg temp\n",
    "sys/class/thermal/thermal_zone0/temp": "45500\n",
    "sys/class/thermal/thermal_zone0/policy": "step_wise\n",
    "sys/class/thermal/cooling_device0/type": "Processor\n",
    "sys/class/thermal/cooling_device0/cur_state": "2\n",
    "sys/class/thermal/cooling_device0/max_state": "10\n",
    # A chip on a device of a bus; its place says what it is called.
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/name": "coretemp\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input": "41000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_label": "Package id 0\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_max": "84000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_crit_alarm": "0\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_alarm": "1\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_type": "4\n",
    # One that has none, and values in the device's directory.
    "sys/devices/virtual/hwmon/hwmon1/name": "Mill Board\n",
    "sys/devices/virtual/hwmon/hwmon1/beep_enable": "1\n",
    "sys/devices/virtual/hwmon/hwmon1/update_interval": "1500\n",
    "sys/devices/virtual/hwmon/hwmon1/vrm": "90\n",
    "sys/devices/virtual/hwmon/hwmon1/in0_input": "1234\n",
    "sys/devices/virtual/hwmon/hwmon1/in0_beep": "0\n",
    "sys/devices/virtual/hwmon/hwmon1/cpu0_vid": "1200\n",
    "sys/devices/virtual/hwmon/hwmon1/fan1_input": "900\n",
    "sys/devices/virtual/hwmon/hwmon1/fan1_fault": "0\n",
    "sys/devices/virtual/hwmon/hwmon1/fan1_pulses": "2\n",
    "sys/devices/virtual/hwmon/hwmon1/pwm1": "128\n",
    "sys/devices/virtual/hwmon/hwmon1/pwm1_enable": "2\n",
    "sys/devices/virtual/hwmon/hwmon1/pwm1_input": "127\n",
    "sys/devices/virtual/hwmon/hwmon1/curr1_input": "2500\n",
    "sys/devices/virtual/hwmon/hwmon1/power1_average": "33000000\n",
    "sys/devices/virtual/hwmon/hwmon1/power1_average_interval": "2000\n",
    "sys/devices/virtual/hwmon/hwmon1/power1_accuracy": "10000\n",
    "sys/devices/virtual/hwmon/hwmon1/energy1_input": "7654321\n",
    "sys/devices/virtual/hwmon/hwmon1/humidity1_input": "45678\n",
    "sys/devices/virtual/hwmon/hwmon1/intrusion0_alarm": "0\n",
    "sys/devices/virtual/hwmon/hwmon1/temp9_input": "broken\n",
}
LINKS = {
    "sys/class/hwmon/hwmon0": "../../devices/platform/coretemp.0/hwmon/hwmon0",
    "sys/class/hwmon/hwmon1": "../../devices/virtual/hwmon/hwmon1",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/device": "../../../coretemp.0",
}
DIRS = ("srv/mill race", "srv/share", "run")


def cpus():
    for cpu in range(4):
        at = f"sys/devices/system/cpu/cpu{cpu}"
        yield f"{at}/topology/physical_package_id", "0\n"
        yield f"{at}/topology/core_id", f"{cpu // 2}\n"
        yield f"{at}/thermal_throttle/core_throttle_count", f"{cpu + 3}\n"
        yield f"{at}/thermal_throttle/package_throttle_count", f"{cpu + 30}\n"
    for cpu in range(2):
        at = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        for i, name in enumerate(("cpuinfo_cur_freq", "cpuinfo_min_freq", "cpuinfo_max_freq",
                                  "cpuinfo_transition_latency", "scaling_cur_freq", "scaling_min_freq",
                                  "scaling_max_freq")):
            if cpu == 0 or name != "cpuinfo_cur_freq":  # which is root's to read
                yield f"{at}/{name}", f"{1000000 * (i + 1) + cpu}\n"
        for name in ("scaling_available_governors", "scaling_driver", "scaling_governor", "related_cpus",
                     "scaling_setspeed"):
            yield f"{at}/{name}", "word\n"


def put(root, path, text):
    """The file's new content, in its place at once."""
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full + ".new", "w") as f:
        f.write(text)
    os.rename(full + ".new", full)


def rewrite(root, path, text):
    """The same file with another content, as a file of the kernel has it."""
    with open(os.path.join(root, path), "r+") as f:
        f.write(text)
        f.truncate()


def make(root):
    for path, text in [*FILES.items(), *cpus()]:
        put(root, path, text)
    for path, target in LINKS.items():
        os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
        os.symlink(target, f"{root}/{path}")
    for path in DIRS:
        os.makedirs(f"{root}/{path}", exist_ok=True)
    return root
