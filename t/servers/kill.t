#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""C1: kill -9 at any instant, into a real Kafka and a real InfluxDB; see campaign.py."""

import tap
from campaign import RealInflux, RealKafka, campaign

campaign("C1_kafka", RealKafka, 15)
campaign("C1_influxdb", RealInflux, 15)
tap.main()
