# SPDX-License-Identifier: GPL-2.0-or-later
"""The user whom root's agent becomes, or asks for, in tests that only root can run."""

import os
import pwd

import tap
from tailrace import tempdir

USER = "nobody"


def user_for_root(what):
    """The user's entry; skips the script when it isn't root's to say WHAT."""
    if os.geteuid() != 0:
        tap.skip_all(f"only root can {what} another user")
    return pwd.getpwnam(USER)


def directory_with(own, mode):
    """A directory that anyone can look into, and in it one called OWN that is the user's."""
    user = pwd.getpwnam(USER)
    dir = tempdir()
    os.chmod(dir, 0o755)
    os.mkdir(f"{dir}/{own}", mode)
    os.chown(f"{dir}/{own}", user.pw_uid, user.pw_gid)
    return dir
