#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""C1: kill -9 at any instant, into a Loki that keeps every copy, while clocks jump; see campaign.py."""

import tap
from campaign import Receiver, campaign

campaign("C1_loki", Receiver, 20, jumps=True)
tap.main()
