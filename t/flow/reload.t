#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Another configuration takes the place of the one that runs: nothing is lost and nothing comes twice, each
event passes one graph as a whole, what stays the same isn't touched, and what can't be loaded changes
nothing."""

import os
import signal
import socket
import threading

import tap
from logs import Log, Writer, counts, strict
from peers import Answer, FakeLoki
from tailrace import Agent, free_port, tempdir


def sink(name, url, inputs="mark", more=""):
    return (f'{name}: {{type: loki, inputs: [{inputs}], url: "{url}", retry: {{max: 500ms}}, '
            f'batch: {{max_wait: 20ms}}{more}}}')


def config(log, marker, *sinks, top="", source="", wait="1s"):
    return f"""
        shutdown_timeout: {wait}
        {top}
        sources:
          a: {{type: file, include: ["{log.path}"]{source}}}
        transforms:
          mark: {{type: labels, inputs: [a], set: {{graph: "{marker}"}}}}
        sinks:
          {(chr(10) + "          ").join(sinks)}
        """


def scene(lines=0):
    """A directory, a Loki, and a log with so many lines."""
    dir = tempdir()
    return dir, FakeLoki(), Log(f"{dir}/in/a.log").lines(lines)


def ends(agent, peer, *logs):
    """All has arrived once, in order."""
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(*logs))


def hup(agent, text):
    """A reload that isn't waited for."""
    agent.configure(text)
    agent.process.send_signal(signal.SIGHUP)


def marked_once(peers, markers):
    """Every event bears the label of exactly one graph, and no earlier one than the event before it."""
    seen = {}
    for peer in peers:
        for e in peer.entries:
            seen.setdefault(int(e.line.partition(b":")[2]), set()).add(e.label("graph"))
    tap.is_([s for s, m in seen.items() if len(m) != 1], [], "events of two graphs")
    order = [markers.index(next(iter(m))) for _, m in sorted(seen.items())]
    tap.ok(order == sorted(order), "graphs follow one another")


@tap.test
def G3_under_load_each_event_passes_one_graph():
    dir = tempdir()
    a, b = FakeLoki(), FakeLoki()
    log = Log(f"{dir}/in/a.log")
    markers = [f"g{i}" for i in range(9)]
    agent = Agent(config(log, "g0", sink("to_a", a.url)), dir=dir)
    writer = Writer(log)
    for i, marker in enumerate(markers[1:], 1):
        peer = (a, b)[i % 2]
        at = log.seq
        agent.reload(config(log, marker, sink(("to_a", "to_b")[i % 2], peer.url)))
        agent.wait_until(lambda: any(e.label("graph") == marker for e in peer.entries), 20, marker)
        tap.ok(log.seq > at, "written meanwhile")
    writer.end()
    agent.wait_until(lambda: len(a.entries) + len(b.entries) >= log.seq, 30, "all")
    tap.is_(agent.stop(), 0, "exit code")
    strict(a.lines() + b.lines(), counts(log), ordered=False)
    marked_once([a, b], markers)


@tap.test
def a_line_before_goes_to_the_old_sink_and_one_after_to_the_new():
    dir = tempdir()
    a, b = FakeLoki(), FakeLoki()
    log = Log(f"{dir}/in/a.log").lines(1)
    agent = Agent(config(log, "x", sink("out", a.url)), dir=dir)
    a.wait_lines(1)
    agent.reload(config(log, "x", sink("out", b.url)))
    log.lines(1)
    b.wait_lines(1)
    tap.is_((a.lines(), b.lines()), ([b"a:1"], [b"a:2"]), "lines")
    tap.like(agent.stderr(), "reloaded: kept 2, changed 1, added 0, removed 0", "the log says what")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def G4_a_bad_configuration_changes_nothing():
    dir, peer, log = scene(1)
    good = config(log, "x", sink("out", peer.url))
    agent = Agent(good, dir=dir)
    agent.reload(good.replace("type: labels", "type: lables"), "failed")
    tap.like(agent.stderr(), r"tailrace\.yaml:\d+:\d+: .*lables", "the place is named")
    for old, new, name in ((f"shutdown_timeout", f"memory_limit: 33MiB\n        shutdown_timeout", "memory_limit"),
                           (f"shutdown_timeout", f"threads: 5\n        shutdown_timeout", "threads"),
                           (f"shutdown_timeout", f"data_dir: {dir}/other\n        shutdown_timeout", "data_dir")):
        agent.reload(good.replace(old, new, 1), "failed")
        tap.like(agent.stderr(), f"{name} can't be changed while running", name)
    log.lines(1)
    peer.wait_lines(2)
    ends(agent, peer, log)


@tap.test
def G5_ten_hups_and_the_last_configuration_wins():
    dir, peer, log = scene(1)
    agent = Agent(config(log, "g0", sink("out", peer.url)), dir=dir, wait=False)
    agent.wait_ready()
    for i in range(1, 11):
        hup(agent, config(log, f"g{i}", sink("out", peer.url)))

    def bears_the_last():
        log.lines(1)
        return any(e.label("graph") == "g10" for e in peer.entries)
    agent.wait_until(bears_the_last, 20, "the last one")
    agent.wait_until(lambda: len(peer.entries) >= log.seq, 20, "all")
    ends(agent, peer, log)


@tap.test
def G5_a_hup_during_startup():
    dir, peer, log = scene(1)
    agent = Agent(config(log, "g0", sink("out", peer.url)), dir=dir, wait=False)
    agent.wait_until(lambda: int(agent._proc("status").partition("SigBlk:")[2].split()[0], 16) & 1, 20,
                     "main")
    hup(agent, config(log, "g1", sink("out", peer.url)))
    agent.wait_ready()
    agent.wait_until(lambda: agent.reloads("done") == 1, 20, "reloaded")
    log.lines(1)
    peer.wait_lines(2)
    tap.is_(peer.entries[-1].label("graph"), "g1", "the configuration that was there last")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def what_stays_the_same_keeps_its_sockets():
    dir = tempdir()
    peer = FakeLoki()
    port = free_port()
    log = Log(f"{dir}/in/a.log")
    other = Log(f"{dir}/in/b.log")

    def text(marker, log):
        t = config(log, marker, sink("out", peer.url, "mark, s"))
        return t.replace("        sources:\n", f"        sources:\n          s: {{type: syslog, "
                         f'listen: ["tcp://127.0.0.1:{port}"]}}\n')
    agent = Agent(text("g0", log), dir=dir)
    before = agent.sockets()
    conn = socket.create_connection(("127.0.0.1", port))
    conn.sendall(b"<13>1 - - - - - - one\n")
    agent.wait_until(lambda: any(b"one" in line for line in peer.lines()), what="one")
    for i in range(3):
        agent.reload(text(f"g{i + 1}", (other, log)[i % 2]))
        conn.sendall(b"<13>1 - - - - - - then%d\n" % i)
        agent.wait_until(lambda: any(b"then%d" % i in line for line in peer.lines()), what=f"then{i}")
    tap.is_(agent.sockets(), before, "the same socket")
    conn.close()
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_changed_listener_passes_its_socket_on():
    dir = tempdir()
    peer = FakeLoki()
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)

    def text(marker):
        return f"""
            sources:
              s: {{type: syslog, listen: ["tcp://127.0.0.1:{tcp}", "udp://127.0.0.1:{udp}",
                                          "unix://{dir}/log"], labels: {{graph: "{marker}"}}}}
            sinks:
              {sink("out", peer.url, "s")}
            """
    agent = Agent(text("g0"), dir=dir)
    before = agent.sockets()
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    out.connect(("127.0.0.1", udp))
    local.connect(f"{dir}/log")
    done, sent = threading.Event(), [0]

    def send():
        while not done.wait(0.002):
            out.send(b"<13>1 - - - - - - u:%d" % sent[0])
            local.send(b"<13>l:%d" % sent[0])
            sent[0] += 1
    thread = threading.Thread(target=send)
    thread.start()
    tap.defer(lambda: (done.set(), thread.join()))
    for i in range(1, 6):
        agent.reload(text(f"g{i}"))
        agent.wait_until(lambda: any(e.label("graph") == f"g{i}" for e in peer.entries), what=f"g{i}")
    done.set()
    thread.join()
    tap.is_(agent.sockets(), before, "the same socket")
    peer.wait_lines(2 * sent[0])
    tap.is_(len(set(peer.lines())), 2 * sent[0], "every datagram once")
    tap.is_(agent.stop(), 0, "exit code")
    tap.ok(not os.path.exists(f"{dir}/log"), "the socket's file is gone with the agent")


@tap.test
def a_dead_sinks_address_is_changed_and_its_queue_goes_there():
    dir = tempdir()
    dead, alive = FakeLoki(), FakeLoki()
    dead.stop()
    log = Log(f"{dir}/in/a.log").lines(40000)
    patient = {"wait": "60s"}
    agent = Agent(config(log, "g0", sink("out", dead.url), **patient), dir=dir)
    agent.wait_until(lambda: agent.metrics().component("out", "received") == 40000, 20, what="queued")
    agent.reload(config(log, "g0", sink("out", alive.url), **patient))
    alive.wait_lines(40000, 20)
    log.lines(10)
    alive.wait_lines(40010, 20)
    strict(alive.lines(), counts(log))
    agent.check()
    tap.is_(agent.metrics().component("out", "sent"), 40010, "counted under the sink's name")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_request_in_flight_is_awaited_longer_than_shutdown_timeout():
    dir, peer, log = scene(100)
    answered = threading.Event()
    slow = FakeLoki(default=Answer(204, hang=answered))
    agent = Agent(config(log, "g0", sink("out", slow.url), wait="100ms"), dir=dir)
    slow.wait_requests(1)
    agent.reload(config(log, "g0", sink("out", peer.url), wait="100ms"))
    log.lines(100)
    agent.wait_until(lambda: agent.metrics().component("out", "received") == 200, what="the rest waits")
    tap.stays(lambda: not peer.entries, 0.5, "for the answer")
    answered.set()
    peer.wait_lines(100)
    tap.is_(agent.stop(), 0, "exit code")
    strict(slow.lines() + peer.lines(), counts(log))


@tap.test
def a_request_in_flight_is_awaited_no_longer_than_its_timeout():
    dir, peer, log = scene(100)
    silent = FakeLoki(lambda request: Answer(204, hang=threading.Event()))
    agent = Agent(config(log, "g0", sink("out", silent.url, more=", timeout: 1s"), wait="60s"), dir=dir)
    silent.wait_requests(1)
    agent.reload(config(log, "g0", sink("out", peer.url), wait="60s"))
    log.lines(100)
    peer.wait_lines(200, 20)
    ends(agent, peer, log)


@tap.test
def what_a_removed_sink_could_not_send_is_counted():
    dir = tempdir()
    dead, alive = FakeLoki(), FakeLoki()
    dead.stop()
    log = Log(f"{dir}/in/a.log").lines(1000)
    both = config(log, "g0", sink("gone", dead.url), sink("out", alive.url))
    agent = Agent(both, dir=dir)
    alive.wait_lines(1000)
    agent.reload(config(log, "g0", sink("out", alive.url)))
    agent.wait_until(lambda: agent.metrics().get("tailrace_component_discarded_events_total",
                                                 component_id="gone", reason="removed") == 1000,
                     what="counted")
    agent.check()
    tap.like(agent.stderr(), "1000 events were not delivered; the sink was removed", "said")
    tap.is_(agent.stop(), 0, "exit code")
    # nobody waits for it any more
    agent = Agent(config(log, "g0", sink("out", alive.url)), dir=dir)
    log.lines(1)
    alive.wait_lines(1001)
    tap.is_(agent.stop(), 0, "exit code")
    strict(alive.lines(), counts(log))


def spooled(name, url, more=""):
    return sink(name, url, more=f", buffer: {{type: disk{more}}}")


def is_spooled(agent, n, name="out"):
    """So many events are inside, and all are durable."""
    agent.wait_until(lambda: (m := agent.metrics()).component(name, "received") == n
                     and m.get("tailrace_spool_unsynced_events", component_id=name) == 0, 30, f"{n} events synced")


def delivered(peer, log, agent):
    """Everything, once, in order, and it adds up."""
    peer.wait_lines(log.seq, 30)
    strict(peer.lines(), counts(log))
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def G6_a_disk_buffer_is_altered_under_load():
    dir, peer, log = scene()
    markers = [f"g{i}" for i in range(7)]
    buffers = ("", ", max_size: 64MiB", ", max_size: 64MiB, when_full: drop_oldest", ", when_full: drop_newest")
    agent = Agent(config(log, "g0", spooled("out", peer.url)), dir=dir)
    writer = Writer(log)
    for i, marker in enumerate(markers[1:], 1):
        at = log.seq
        agent.reload(config(log, marker, spooled("out", peer.url, buffers[i % 4])))
        agent.wait_until(lambda: any(e.label("graph") == marker for e in peer.entries), 20, marker)
        tap.ok(log.seq > at, "written meanwhile")
    writer.end()
    delivered(peer, log, agent)
    marked_once([peer], markers)


@tap.test
def G6_an_unchanged_disk_buffer_goes_on():
    dir = tempdir()
    dead = FakeLoki(port=free_port(), start=False)
    log = Log(f"{dir}/in/a.log").lines(3000)
    agent = Agent(config(log, "g0", spooled("out", dead.url)), dir=dir)
    is_spooled(agent, 3000)
    agent.reload(config(log, "g1", spooled("out", dead.url)))
    tap.like(agent.stderr(), "reloaded: kept 2, changed 1, added 0, removed 0", "the sink is kept")
    log.lines(3000)
    is_spooled(agent, 6000)
    dead.start()
    delivered(dead, log, agent)


@tap.test
def G6_a_dead_sinks_address_is_changed_and_its_disk_buffer_goes_there():
    dir = tempdir()
    dead, also_dead = FakeLoki(port=free_port(), start=False), FakeLoki(port=free_port(), start=False)
    alive = FakeLoki()
    log = Log(f"{dir}/in/a.log").lines(40000)
    agent = Agent(config(log, "g0", spooled("out", dead.url)), dir=dir)
    is_spooled(agent, 40000)
    agent.reload(config(log, "g0", spooled("out", also_dead.url, ", max_size: 32MiB")))
    log.lines(10)
    agent.reload(config(log, "g0", spooled("out", alive.url)))
    log.lines(10)
    delivered(alive, log, agent)


@tap.test
def G6_what_is_in_memory_goes_to_the_disk_buffer():
    dir = tempdir()
    dead = FakeLoki(port=free_port(), start=False)
    log = Log(f"{dir}/in/a.log").lines(20000)
    agent = Agent(config(log, "g0", sink("out", dead.url)), dir=dir)
    agent.wait_until(lambda: agent.metrics().component("out", "received") == 20000, 20, what="queued")
    agent.reload(config(log, "g0", spooled("out", dead.url)))
    log.lines(10)
    is_spooled(agent, 20010)
    tap.is_(agent.stop(), 0, "exit code")
    dead.start()
    agent = Agent(config(log, "g0", spooled("out", dead.url)), dir=dir)
    delivered(dead, log, agent)


@tap.test
def G6_a_disk_buffer_stays_when_its_sink_goes():
    dir = tempdir()
    dead, other = FakeLoki(port=free_port(), start=False), FakeLoki()
    log = Log(f"{dir}/in/a.log").lines(5000)
    both = config(log, "g0", spooled("out", dead.url), sink("other", other.url))
    agent = Agent(both, dir=dir)
    is_spooled(agent, 5000)
    agent.reload(config(log, "g0", sink("other", other.url)))
    agent.wait_until(lambda: "spool/out stays as it is, with 5000 events" in agent.stderr(), what="it is named")
    agent.check()
    log.lines(10)
    other.wait_lines(5010)
    agent.reload(both)
    log.lines(10)
    dead.start()
    dead.wait_lines(5010, 30)
    tap.is_([int(l.partition(b":")[2]) for l in dead.lines()], [*range(1, 5001), *range(5011, 5021)],
            "all but what came while it wasn't there, in order")
    tap.is_(agent.stop(), 0, "exit code")
    strict(other.lines(), counts(log))


@tap.test
def G6_back_at_once_it_takes_its_disk_buffer_over():
    dir = tempdir()
    dead, alive, other = FakeLoki(port=free_port(), start=False), FakeLoki(), FakeLoki()
    log = Log(f"{dir}/in/a.log").lines(5000)
    rest = sink("other", other.url)
    agent = Agent(config(log, "g0", spooled("out", dead.url), rest, wait="3s"), dir=dir)
    is_spooled(agent, 5000)
    agent.reload(config(log, "g0", rest, wait="3s"))
    agent.reload(config(log, "g0", spooled("out", alive.url), rest))
    delivered(alive, log, agent)


@tap.test
def G6_from_disk_to_memory_and_back():
    dir = tempdir()
    dead, alive = FakeLoki(port=free_port(), start=False), FakeLoki()
    log = Log(f"{dir}/in/a.log").lines(3000)
    agent = Agent(config(log, "g0", spooled("out", dead.url)), dir=dir)
    is_spooled(agent, 3000)
    agent.reload(config(log, "g0", sink("out", alive.url)))
    log.lines(1000)
    alive.wait_lines(1000)
    agent.wait_until(lambda: "spool/out stays as it is, with 3000 events" in agent.stderr(), what="it is named")
    agent.check()
    agent.reload(config(log, "g0", spooled("out", alive.url)))
    alive.wait_lines(4000, 30)
    tap.is_(agent.stop(), 0, "exit code")
    strict(alive.lines(), counts(log), ordered=False)


@tap.test
def G6_rolled_back_the_disk_buffer_goes_on():
    dir = tempdir()
    dead = FakeLoki(port=free_port(), start=False)
    taken = socket.create_server(("127.0.0.1", 0))
    log = Log(f"{dir}/in/a.log").lines(3000)
    agent = Agent(config(log, "g0", spooled("out", dead.url)), dir=dir)
    is_spooled(agent, 3000)
    s = f'{{type: syslog, listen: ["tcp://127.0.0.1:{taken.getsockname()[1]}"]}}'
    agent.reload(config(log, "g1", spooled("out", dead.url, ", max_size: 64MiB"), spooled("new", dead.url))
                 .replace("        sources:\n", f"        sources:\n          s: {s}\n").replace("[a]", "[a, s]"),
                 "failed")
    tap.like(agent.stderr(), "not reloaded, the old configuration goes on: s: ", "why")
    log.lines(3000)
    is_spooled(agent, 6000)
    dead.start()
    delivered(dead, log, agent)
    tap.is_({e.label("graph") for e in dead.entries}, {"g0"}, "the old graph")


@tap.test
def a_graph_that_cannot_be_opened_is_rolled_back():
    dir, peer, log = scene(10)
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    agent = Agent(config(log, "g0", sink("out", peer.url)), dir=dir)
    peer.wait_lines(10)
    bad = config(log, "g1", sink("out", peer.url), source=", max_line_bytes: 5000")
    agent.reload(bad.replace("        sources:\n", f"        sources:\n          s: {{type: syslog, "
                             f'listen: ["tcp://127.0.0.1:{port}"]}}\n').replace("[a]", "[a, s]"),
                 "failed")
    tap.like(agent.stderr(), f"not reloaded, the old configuration goes on: s: .*{port}", "why")
    log.lines(10)
    peer.wait_lines(20)
    tap.is_({e.label("graph") for e in peer.entries}, {"g0"}, "the old graph")
    ends(agent, peer, log)


@tap.test
def transforms_come_and_go_and_a_changed_source_reads_on():
    dir, peer, log = scene()
    agent = Agent(config(log, "g0", sink("out", peer.url)), dir=dir)
    writer = Writer(log)
    plain = config(log, "g0", sink("out", peer.url, "a")).replace(
        "transforms:", "").replace('mark: {type: labels, inputs: [a], set: {graph: "g0"}}', "")
    longer = config(log, "g0", sink("out", peer.url, "parse")).replace(
        "        sinks:", "          parse: {type: regex, inputs: [mark], pattern: '^a:(?<seq>\\d+)'}\n"
        "        sinks:")
    for i in range(3):
        for text in (plain, longer, config(log, "g0", sink("out", peer.url), source=", rotated: off"),
                     config(log, "g0", sink("out", peer.url),
                            source=f', include_more: 1'.replace("include_more: 1", "poll_interval: 2s"))):
            at = len(peer.entries)
            agent.reload(text)
            agent.wait_until(lambda: len(peer.entries) > at, 20, "it goes on")
    writer.end()
    agent.wait_until(lambda: len(peer.entries) >= log.seq, 30, "all")
    ends(agent, peer, log)


@tap.test
def a_file_more_in_include():
    dir = tempdir()
    peer = FakeLoki()
    log, more = Log(f"{dir}/in/a.log").lines(100), Log(f"{dir}/in/b.log").lines(100)
    one = config(log, "g0", sink("out", peer.url))
    agent = Agent(one, dir=dir)
    peer.wait_lines(100)
    agent.reload(one.replace(log.path, f"{dir}/in/*.log"))
    peer.wait_lines(200)
    log.lines(1)
    peer.wait_lines(201)
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(log, more))


@tap.test
def watch_reloads_by_itself():
    dir, peer, log = scene(1)
    agent = Agent(config(log, "g0", sink("out", peer.url)), dir=dir, args=["--watch"])
    peer.wait_lines(1)
    tap.is_(agent.reloads("done"), 0, "nothing changed yet")
    agent.configure(config(log, "g1", sink("out", peer.url)))
    agent.wait_until(lambda: agent.reloads("done") == 1, 20, "reloaded")
    log.lines(1)
    peer.wait_lines(2)
    tap.is_(peer.entries[-1].label("graph"), "g1", "the new graph")
    # as a ConfigMap changes: a link that leads elsewhere
    with open(f"{dir}/other.yaml", "w") as f:
        f.write(open(agent.config_path).read().replace("g1", "g2"))
    os.symlink("other.yaml", f"{dir}/link")
    os.replace(f"{dir}/link", agent.config_path)
    agent.wait_until(lambda: agent.reloads("done") == 2, 20, "reloaded")
    log.lines(1)
    peer.wait_lines(3)
    tap.is_(peer.entries[-1].label("graph"), "g2", "the newest graph")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def what_is_global_is_applied():
    dir, peer, log = scene(1)
    ports = [free_port(), free_port()]
    text = [config(log, "g0", sink("out", peer.url), top=f"labels: {{at: l{i}}}\n        api: {{listen: "
                   f'"127.0.0.1:{ports[i]}"}}') for i in range(2)]
    agent = Agent(text[0], dir=dir)
    peer.wait_lines(1)
    hup(agent, text[1])
    agent.wait_ready()
    agent.wait_until(lambda: agent.reloads("done") == 1, what="the API has moved")
    log.lines(1)
    peer.wait_lines(2)
    tap.is_([e.label("at") for e in peer.entries], ["l0", "l1"], "labels")
    tap.is_([port for port, _ in agent.sockets()], [ports[1]], "the old listener is gone")
    ends(agent, peer, log)


@tap.test
def sigterm_right_after_a_hup():
    dir = tempdir()
    peer = FakeLoki(default=Answer(204, delay=0.01))
    log = Log(f"{dir}/in/a.log")
    writer = Writer(log)
    for i in range(3):
        agent = Agent(config(log, f"g{i}", sink("out", peer.url)), dir=dir)
        at = len(peer.entries)
        agent.wait_until(lambda: len(peer.entries) > at, 20, "it works")
        hup(agent, config(log, f"h{i}", sink("out", peer.url), source=", rotated: off"))
        tap.is_(agent.stop(), 0, "exit code")
    writer.end()
    agent = Agent(config(log, "last", sink("out", peer.url)), dir=dir)
    agent.wait_until(lambda: len(peer.entries) >= log.seq, 30, "the rest")
    ends(agent, peer, log)


tap.main()
