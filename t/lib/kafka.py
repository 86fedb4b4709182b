# SPDX-License-Identifier: GPL-2.0-or-later
"""librdkafka's mock cluster (t/plugin/kafka_mock.c) as a peer: it takes what is produced, gives it to be
consumed, and fails as a test tells it."""

import os
import subprocess
from dataclasses import dataclass

import tap
from tailrace import TOP_BUILD, tempdir

PRODUCE = 0  # numbers of Kafka's requests, for errors()
FETCH = 1
INIT_PRODUCER_ID = 22
UNKNOWN_TOPIC_OR_PART = 3
INVALID_MSG = 2
NOT_LEADER = 6
REQUEST_TIMED_OUT = 7
MSG_SIZE_TOO_LARGE = 10
TOPIC_EXCEPTION = 17
NOT_ENOUGH_REPLICAS = 19
TOPIC_AUTHORIZATION_FAILED = 29
INVALID_TIMESTAMP = 32
KAFKA_STORAGE_ERROR = 56
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_RECORD = 87
TRANSPORT = -195  # librdkafka's own: the connection is closed


@dataclass
class Record:
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: list  # of (name, value)


def _unhex(text):
    return None if text == "-" else b"" if text == "=" else bytes.fromhex(text)


def _hex(data):
    return "-" if data is None else data.hex() or "="


class MockKafka:
    """brokers: how many, numbered from 1. topics: {name: partitions}; they are followed from the first
    record on. What isn't among them is made by whoever asks for it, with 4 partitions."""

    def __init__(self, topics=None, brokers=1):
        self.dir = tempdir()
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", os.path.join(TOP_BUILD, "t/plugin/kafka_mock"),
             str(brokers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        tap.defer(self._end)
        self.brokers = self.process.stdout.readline().strip()
        tap.need(self.brokers, "the mock cluster runs")
        self.followed = set()
        for name, partitions in (topics or {}).items():
            self.tell("topic", name, partitions)
            self.follow(name)

    def _end(self):
        self.process.kill()
        self.process.wait()

    def tell(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        tap.need(answer == "ok", f"{words}: {answer}")

    def errors(self, api, *codes):
        """The next requests of that kind, on whichever broker, are answered so; 0: as they should be."""
        self.tell("error", api, *codes)

    def topic_error(self, topic, code):
        """Metadata says so of the topic; 0: it is well."""
        self.tell("topic_error", topic, code)

    def down(self, broker=1):
        self.tell("down", broker)

    def up(self, broker=1):
        self.tell("up", broker)

    def rtt(self, ms, broker=1):
        self.tell("rtt", broker, ms)

    def leader(self, topic, partition, broker):
        self.tell("leader", topic, partition, broker)

    def produce(self, topic, partition, value, key=None, time_ms=1):
        self.tell("produce", topic, partition, time_ms, _hex(key), _hex(value))

    def follow(self, topic):
        if topic not in self.followed:
            self.tell("follow", topic, f"{self.dir}/{topic}")
            self.followed.add(topic)

    def records(self, topic):
        """All that the topic has had so far, by partition in the order of their offsets."""
        self.follow(topic)
        out = []
        with open(f"{self.dir}/{topic}") as f:
            for line in f:
                if not line.endswith("\n"):
                    break
                partition, offset, ms, key, value, *headers = line.split()
                pairs = [(n, _unhex(v)) for n, _, v in (h.partition("=") for h in headers)]
                out.append(Record(int(partition), int(offset), int(ms), _unhex(key), _unhex(value),
                                  pairs))
        return out

    def values(self, topic):
        return [r.value for r in self.records(topic)]

    def wait_records(self, topic, n, deadline=20.0, again=False):
        """All records, once n are there; n different ones where some may come again."""
        got = []

        def enough():
            got[:] = self.records(topic)
            return len({(r.key, r.value) for r in got} if again else got) >= n
        tap.wait_until(enough, deadline, lambda: f"{n} records in {topic}, {len(got)} there")
        return got
