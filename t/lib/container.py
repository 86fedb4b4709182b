# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian of its own: a root directory, made anew from the tar of `t/servers/install root`, and the real
systemd booted in it, in namespaces of its own but for the network."""

import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile

import tap
from servers import installed

# What both ways into the root have to see. Nothing of the machine's own can be changed from inside: its
# settings and devices are there to be read.
MOUNTS = """
    set -e
    mount --bind "$1" "$1"
    cd "$1"
    mount -t proc proc proc
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t sysfs -o ro sysfs sys
    mount -t tmpfs -o mode=755 tmpfs dev
    for n in null zero full random urandom tty; do touch dev/$n; mount --bind /dev/$n dev/$n; done
    mkdir dev/shm dev/pts
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t tmpfs -o mode=755 tmpfs run
    """
RUN = MOUNTS + """
    shift
    exec chroot . "$@"
    """
# No unit of the root is started but what basic.target asks for; the rest is the test's to start.
BOOT = MOUNTS + """
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test \\
        /lib/systemd/systemd --system --unit=basic.target --log-target=journal
    """
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
NAMESPACES = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--uts", "--ipc"]


def cgroup2():
    """Where the machine has its unified hierarchy, or None."""
    with open("/proc/self/mounts") as f:
        return next((line.split()[1] for line in f if line.split()[2] == "cgroup2"), None)


def why_not():
    """Why there can't be one here, or None."""
    if os.geteuid() != 0:
        return "only root can make a root and enter it"
    if not shutil.which("apt-get"):
        return "this is no Debian"
    if not cgroup2():
        return "no cgroup2 is mounted"
    r = subprocess.run([*NAMESPACES, "--cgroup", "mount", "-t", "tmpfs", "none", "/mnt"],
                       capture_output=True, text=True)
    return r.stderr.strip() if r.returncode else None


class Container:
    """root: its root directory, as it is without what is mounted in it while it runs."""

    def __init__(self, packages):
        self.dir = tempfile.mkdtemp(prefix="tr-")
        self.root = f"{self.dir}/root"
        self.init = None
        self.cgroup = None
        os.chmod(self.dir, 0o755)
        os.mkdir(self.root)
        r = subprocess.run(["tar", "-C", self.root, "-xf", installed("root", *packages)],
                           capture_output=True, text=True)
        tap.need(r.returncode == 0, f"unpacking the root: {r.stderr}")

    def path(self, path):
        return self.root + path

    def write(self, path, text):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "w") as f:
            f.write(text)

    def boot(self):
        self.cgroup = f"{cgroup2()}/{os.path.basename(self.dir)}"
        os.mkdir(self.cgroup)
        enter = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
        self.init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "sh", "-c", enter, self.cgroup, *NAMESPACES, "--cgroup",
             "sh", "-c", BOOT, "boot", self.root], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        tap.wait_until(lambda: self.try_("systemctl", "is-active", "basic.target")[0] == 0, 30,
                       "systemd has booted")

    def _first(self):
        """systemd's process id, seen from outside."""
        with open(f"/proc/{self.init.pid}/task/{self.init.pid}/children") as f:
            return f.read().split()[0]

    def command(self, *command):
        """The command that runs that one inside: beside systemd once it has booted."""
        if not self.init:
            return [*NAMESPACES, "sh", "-c", RUN, "run", self.root, *command]
        return ["nsenter", "-t", self._first(), "-m", "-p", "-C", "-u", "-i", "-r", "-w", *command]

    def try_(self, *command):
        """(exit code, what it said)"""
        try:
            command = self.command(*command)
        except (OSError, IndexError):
            return -1, "systemd has ended, or not begun"
        r = subprocess.run(command, capture_output=True, text=True, env=ENV, stdin=subprocess.DEVNULL)
        return r.returncode, r.stdout + r.stderr

    def run(self, *command):
        """What it said; it has to succeed."""
        code, said = self.try_(*command)
        tap.need(code == 0, f"{' '.join(command)}: {code}: {said[-3000:]}")
        return said

    def start(self, *command, user="root"):
        """A process inside, ended with the test."""
        p = subprocess.Popen(self.command("setpriv", f"--reuid={user}", "--clear-groups", "--pdeathsig", "KILL",
                                          *command), env=ENV, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        tap.defer(p.wait)
        tap.defer(p.kill)

    def show(self, unit, name):
        """What systemd says of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def status(self, pid):
        """/proc/PID/status of a process inside."""
        return dict(re.findall(r"^(\w+):\t(.*)$", self.run("cat", f"/proc/{pid}/status"), re.M))

    def end(self):
        if self.init:
            self.init.send_signal(signal.SIGKILL)
            self.init.wait()
            tap.wait_until(self._left, 20, "its processes have ended")
        shutil.rmtree(self.dir, ignore_errors=True)

    def _left(self):
        try:
            for dir, _, _ in os.walk(self.cgroup, topdown=False):
                os.rmdir(dir)
            return True
        except OSError:
            return False

    def find(self, without=()):
        """{path: what it is} of everything in the root but what matches one of these; of /etc with what
        is in it."""
        skip = re.compile("|".join(without) or "$^")
        found = {}
        for dir, dirs, files in os.walk(self.root):
            for name in dirs + files:
                full = os.path.join(dir, name)
                path = full[len(self.root):]
                if skip.match(path):
                    continue
                st = os.lstat(full)
                what = [stat.filemode(st.st_mode), st.st_uid, st.st_gid]
                if stat.S_ISLNK(st.st_mode):
                    what.append(os.readlink(full))
                elif stat.S_ISREG(st.st_mode) and path.startswith("/etc/"):
                    with open(full, "rb") as f:
                        what.append(hashlib.sha256(f.read()).hexdigest())
                found[path] = what
        return found
