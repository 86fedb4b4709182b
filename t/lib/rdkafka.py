# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of Kafka for tests, librdkafka by ctypes: it makes records, reads them back, and looks at a
group's offsets, of a mock cluster (kafka.py) or a real one."""

import contextlib
import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p

import tap

VTYPE_END, VTYPE_TOPIC, _, VTYPE_PARTITION, VTYPE_VALUE, VTYPE_KEY, _, VTYPE_MSGFLAGS, \
    VTYPE_TIMESTAMP = range(9)
MSG_F_COPY = 2
PRODUCER, CONSUMER = 0, 1
PARTITION_EOF = -191
OFFSET_INVALID = -1001


class Message(ctypes.Structure):
    _fields_ = [("err", c_int), ("rkt", c_void_p), ("partition", c_int32), ("payload", c_void_p),
                ("len", c_size_t), ("key", c_void_p), ("key_len", c_size_t), ("offset", c_int64),
                ("private", c_void_p)]


class TopicPartition(ctypes.Structure):
    _fields_ = [("topic", c_char_p), ("partition", c_int32), ("offset", c_int64),
                ("metadata", c_void_p), ("metadata_size", c_size_t), ("opaque", c_void_p),
                ("err", c_int), ("private", c_void_p)]


class TopicPartitionList(ctypes.Structure):
    _fields_ = [("cnt", c_int), ("size", c_int), ("elems", POINTER(TopicPartition))]


def _library():
    try:
        lib = ctypes.CDLL("librdkafka.so.1")
    except OSError as e:
        tap.skip(str(e))
    for name, result, args in (
            ("rd_kafka_conf_new", c_void_p, []),
            ("rd_kafka_conf_set", c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
            ("rd_kafka_new", c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
            ("rd_kafka_destroy", None, [c_void_p]),
            ("rd_kafka_flush", c_int, [c_void_p, c_int]),
            ("rd_kafka_poll", c_int, [c_void_p, c_int]),
            ("rd_kafka_err2str", c_char_p, [c_int]),
            ("rd_kafka_outq_len", c_int, [c_void_p]),
            ("rd_kafka_producev", c_int, None),
            ("rd_kafka_consumer_poll", POINTER(Message), [c_void_p, c_int]),
            ("rd_kafka_message_destroy", None, [POINTER(Message)]),
            ("rd_kafka_assign", c_int, [c_void_p, POINTER(TopicPartitionList)]),
            ("rd_kafka_committed", c_int, [c_void_p, POINTER(TopicPartitionList), c_int]),
            ("rd_kafka_query_watermark_offsets", c_int,
             [c_void_p, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64), c_int]),
            ("rd_kafka_init_transactions", c_void_p, [c_void_p, c_int]),
            ("rd_kafka_begin_transaction", c_void_p, [c_void_p]),
            ("rd_kafka_commit_transaction", c_void_p, [c_void_p, c_int]),
            ("rd_kafka_abort_transaction", c_void_p, [c_void_p, c_int]),
            ("rd_kafka_error_string", c_char_p, [c_void_p]),
            ("rd_kafka_topic_partition_list_new", POINTER(TopicPartitionList), [c_int]),
            ("rd_kafka_topic_partition_list_add", POINTER(TopicPartition),
             [POINTER(TopicPartitionList), c_char_p, c_int32]),
            ("rd_kafka_topic_partition_list_destroy", None, [POINTER(TopicPartitionList)])):
        fn = getattr(lib, name)
        fn.restype = result
        if args is not None:
            fn.argtypes = args
    return lib


LIB = None


def lib():
    global LIB
    LIB = LIB or _library()
    return LIB


def _handle(kind, conf):
    why = ctypes.create_string_buffer(512)
    c = lib().rd_kafka_conf_new()
    for key, value in conf.items():
        if lib().rd_kafka_conf_set(c, key.encode(), str(value).encode(), why, len(why)):
            raise tap.Failure(f"{key}: {why.value.decode()}")
    rk = lib().rd_kafka_new(kind, c, why, len(why))
    if not rk:
        raise tap.Failure(why.value.decode())
    return rk


def _check(err, what):
    if err:
        raise tap.Failure(f"{what}: {lib().rd_kafka_err2str(err).decode()}")


class Client:
    """brokers: bootstrap servers."""

    def __init__(self, brokers, conf=()):
        self.brokers = brokers
        self.conf = {"bootstrap.servers": brokers, "log_level": 2, **dict(conf)}
        self.producer = None
        tap.defer(self.close)

    def close(self):
        if self.producer:
            lib().rd_kafka_destroy(self.producer)
        self.producer = None

    def _make_producer(self):
        if self.producer:
            return
        self.producer = _handle(PRODUCER, {**self.conf, "linger.ms": 5, "message.max.bytes": 16 << 20,
                                           "queue.buffering.max.kbytes": 1 << 20})
        if "transactional.id" in self.conf:
            self._transact("init_transactions", 60000)

    def _transact(self, what, *args):
        error = getattr(lib(), f"rd_kafka_{what}")(self.producer, *args)
        tap.need(not error, lib().rd_kafka_error_string(error).decode() if error else what)

    @contextlib.contextmanager
    def transaction(self, commit=True):
        """Of a client with a transactional.id."""
        self._make_producer()
        self._transact("begin_transaction")
        yield
        self._transact("commit_transaction" if commit else "abort_transaction", 60000)

    def produce(self, topic, values, partition=0, time_ms=None, deadline=30):
        """One record a value (text or bytes; None: a tombstone), in that order, acknowledged."""
        self._make_producer()
        for v in values:
            data = v.encode() if isinstance(v, str) else v
            args = [c_int(VTYPE_TOPIC), c_char_p(topic.encode()),
                    c_int(VTYPE_PARTITION), c_int32(partition),
                    c_int(VTYPE_MSGFLAGS), c_int(MSG_F_COPY)]
            if data is not None:
                args += [c_int(VTYPE_VALUE), c_char_p(data), c_size_t(len(data))]
            if time_ms is not None:
                args += [c_int(VTYPE_TIMESTAMP), c_int64(time_ms)]
            while True:
                err = lib().rd_kafka_producev(c_void_p(self.producer), *args, c_int(VTYPE_END))
                if err != -184:  # the queue is full
                    break
                lib().rd_kafka_poll(self.producer, 10)
            _check(err, f"produce to {topic}")
        _check(lib().rd_kafka_flush(self.producer, int(deadline * 1000 * tap.SCALE)), "flush")

    def _reading(self):
        return {key: v for key, v in self.conf.items() if key != "transactional.id"}

    def _list(self, items):
        out = lib().rd_kafka_topic_partition_list_new(len(items))
        for topic, partition, offset in items:
            lib().rd_kafka_topic_partition_list_add(out, topic.encode(), partition)[0].offset = offset
        return out

    def committed(self, group, topic, partitions=1):
        """The group's offset of each partition; None where it has none."""
        rk = _handle(CONSUMER, {**self._reading(), "group.id": group})
        parts = self._list([(topic, i, OFFSET_INVALID) for i in range(partitions)])
        try:
            _check(lib().rd_kafka_committed(rk, parts, 10000), f"offsets of {group}")
            got = [parts[0].elems[i].offset for i in range(partitions)]
        finally:
            lib().rd_kafka_topic_partition_list_destroy(parts)
            lib().rd_kafka_destroy(rk)
        return [o if o >= 0 else None for o in got]

    def end(self, topic, partition=0):
        rk = _handle(CONSUMER, {**self._reading(), "group.id": "ends"})
        low, high = c_int64(), c_int64()
        try:
            _check(lib().rd_kafka_query_watermark_offsets(rk, topic.encode(), partition, byref(low),
                                                          byref(high), 10000), topic)
        finally:
            lib().rd_kafka_destroy(rk)
        return high.value

    def read(self, topic, partitions=1, deadline=30):
        """Every record of the topic that there is now: [(partition, offset, value)]."""
        rk = _handle(CONSUMER, {**self._reading(), "group.id": "reading", "enable.partition.eof": "true",
                                "enable.auto.commit": "false"})
        parts = self._list([(topic, i, 0) for i in range(partitions)])
        got, ended = [], set()
        try:
            _check(lib().rd_kafka_assign(rk, parts), topic)

            def read_some():
                while len(ended) < partitions:
                    m = lib().rd_kafka_consumer_poll(rk, 100)
                    if not m:
                        return False
                    one = m[0]
                    if one.err == PARTITION_EOF:
                        ended.add(one.partition)
                    elif not one.err:
                        got.append((one.partition, one.offset,
                                    ctypes.string_at(one.payload, one.len) if one.payload else None))
                    lib().rd_kafka_message_destroy(m)
                return True
            tap.wait_until(read_some, deadline, f"the end of {topic}")
        finally:
            lib().rd_kafka_topic_partition_list_destroy(parts)
            lib().rd_kafka_destroy(rk)
        return got
