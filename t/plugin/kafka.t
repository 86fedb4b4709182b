#!/usr/bin/python3
"""The Kafka sink against librdkafka's mock cluster: what records look like, that every event is delivered
whatever brokers say, in its order, and that only what is refused for good is rejected."""

import json
import os
import re

import kafka
import tap
from kafka import MockKafka
from logs import Log, at_least_once, complete, counts, strict
from tailrace import Agent, command, tempdir


def agent_of(mock, dir, sink="topic: t", transforms="", inputs="logs", top="", brokers=None, **more):
    """Everything in dir/in/*.log to a sink of these options."""
    return Agent(f"""
        {top}
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        {transforms}
        sinks:
          out:
            type: kafka
            inputs: [{inputs}]
            brokers: "{brokers or mock.brokers}"
            retry: {{initial: 20ms, max: 200ms}}
            {sink.replace(chr(10), chr(10) + ' ' * 12)}
        """, dir=dir, **more)


def wait_sent(agent, n, deadline=20.0):
    agent.wait_metric("tailrace_component_sent_events_total", n, deadline, component_id="out")


@tap.test
def a_record_is_the_event():
    mock, dir = MockKafka({"t": 1}), tempdir()
    Log(f"{dir}/in/a.log").raw(b"hello\n")
    agent = agent_of(mock, dir)
    record = mock.wait_records("t", 1)[0]
    tap.like(record.value, r'^{"timestamp":"[^"]+","message":"hello","labels":{"filename":"[^"]+","host":'
                           r'"[^"]+"},"fields":{}}$', "value")
    tap.is_(record.key, None, "key")
    tap.is_(record.headers, [], "headers")
    tap.is_(agent.stop(), 0, "exit code")


tap.main()
