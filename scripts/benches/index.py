"""The index of event logs: the first one, a new node's, an hour's requests, and searches among a million applications.

The event logs come from lab/stand-ins/many-logs, which makes them by a formula.
"""
import contextlib
import json
import sqlite3
import statistics
import subprocess
import time

from benches.lab import ANSWERS, NODE, ROOT, listed, node, restart_until, root, row, sh, until, with_ours, with_sparks_defaults

CONNECTIONS = 128
ADDRESS = "127.0.0.1:7080"
STAND_IN = f"http://{ADDRESS}/_"
SOURCE = "s3://many/flat/"
KEYS = "AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any"
# A gateway beside the installed one.
OTHER_GATEWAY = "127.0.0.1:9978"
# In the gateway.
LOOKS_AN_HOUR, LISTINGS_AN_HOUR = 120, 4
ENDS_AN_HOUR = 60

# Runs a command so many times. Prints its times, its peak memory in MB with the processor time of one run, and what it printed the
# last time. What it tells people is shown if it fails.
TIMED = """
import resource, subprocess, sys, time
times = []
for _ in range(int(sys.argv[1])):
    begin = time.perf_counter()
    ran = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if ran.returncode:
        sys.exit(ran.stderr.decode())
    times.append(time.perf_counter() - begin)
print(*times)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss / 1024, (used.ru_utime + used.ru_stime) / len(times), flush=True)
sys.stdout.buffer.write(ran.stdout)
"""


# The options of the stand-in that runs.
served = None


def serve(options):
    """Starts the stand-in with these options, in place of one that runs, and forgets all databases."""
    global served
    served = options
    sh("systemctl stop lab-many 2>/dev/null; systemctl reset-failed lab-many 2>/dev/null; rm -rf /srv/index; mkdir /srv/index")
    sh(f"systemd-run -q --unit lab-many /opt/lab/many-logs serve /srv/fixtures -listen {ADDRESS} {options}")
    until(f"curl -sf -o /dev/null {STAND_IN}/counters")


def control(what):
    return sh(f"curl -sf -X POST '{STAND_IN}/{what}'")


def counters():
    return json.loads(sh(f"curl -sf {STAND_IN}/counters"))


def index(arguments, times=1):
    """A command of the index on a source of the stand-in. Returns its seconds, its peak memory in MB, and what it printed."""
    return measured(arguments, times)[:3]


def measured(arguments, times=1):
    """The same, and the processor time of one run in seconds."""
    command = f"emr-shs index {arguments} --event-logs {SOURCE} --db /srv/index/db --endpoint-url http://{ADDRESS} --region eu-west-3"
    seconds, memory, printed = sh(f"{KEYS} python3 /srv/timed.py {times} {command}").split("\n", 2)
    memory, processor = map(float, memory.split())
    return list(map(float, seconds.split())), memory, printed, processor


def history_server_reads(source, port):
    """Lets the history server read a source of the stand-in, or the lab's own again. `port` is that of S3."""
    sh(f"sed -i 's/127.0.0.1:70[78]0/127.0.0.1:{port}/' /etc/hadoop/conf/core-site.xml")
    if source:
        # Without the gateway, which asks the same S3 server.
        sh(f"{KEYS} emr-shs install -q --event-logs {source}; systemctl stop emr-shs-gateway.socket emr-shs-gateway")
    else:
        sh("emr-shs uninstall -q")


def first_index():
    """The first index of 10,000 logs, beside the same ranged GETs without anything else, and beside the history server."""
    serve("-flat 10000 -delay 30ms")
    ours, bare, took, memory = [], [], [], 0
    for _ in range(3):
        control("reset?record=1")
        seconds, peak, _ = index("rebuild --no-snapshot --json")
        counted = counters()
        sh(f"curl -sf {STAND_IN}/ranges >/srv/ranges")
        took += seconds
        ours.append(counted["GET"] / seconds[0])
        memory = max(peak, memory)
        bare.append(float(sh(f"/opt/lab/many-logs fetch {ADDRESS} many {CONNECTIONS} </srv/ranges").split()[0]))
    seconds = statistics.median(took)
    row("first index of 10,000 logs, S3 30 ms away: GETs", statistics.median(ours), "the same ranged GETs and nothing else", statistics.median(bare), ">= 0.7", "/s", 0)
    costs = ", ".join(f"{logs} took {gets}" for gets, logs in sorted(counted["logs by GETs"].items()))
    print(f"  {seconds:.1f} s, {10000 / seconds:.0f} logs a second, {counted['LIST']} LISTs; GETs of a log: {costs}; peak memory {memory:.0f} MB", flush=True)

    # Of 10,000 it would list none within two minutes: it first asks for each rolling log, one after the other.
    serve("-flat 1000 -delay 30ms")
    history_server_reads(SOURCE, 7080)
    for name, prepare, goal in (("Spark's defaults", with_sparks_defaults, "<= 0.01"), ("emr-shs without an index", with_ours, "<= 0.05")):
        prepare()
        sh("systemctl stop spark-history-server; rm -rf /mnt/emr-shs/*/*")
        begun = sh("date +%s").strip()
        took = restart_until(f"{{ {listed(960)}; }} || test $(($(date +%s) - {begun})) -ge 180")
        count = int(sh("curl -sf http://127.0.0.1:18080/api/v1/applications | grep -c attempts || true"))
        row("  the same 10,000", seconds, f"history server, {name}, ten times what {count} of 1,000 took", took / count * 9600, goal, digits=1)
    history_server_reads(None, 7070)


def gateway_shows_rows():
    """The seconds from the start of a gateway without a database until its page shows applications."""
    sh("rm -rf /srv/index; mkdir /srv/index")
    seconds = until(f"curl -sf http://{OTHER_GATEWAY}/ | grep -q /history/", start_gateway())
    sh("systemctl stop lab-gateway")
    return seconds


def start_gateway():
    """The command that starts a gateway of its own with the index of the stand-in's event logs."""
    return (f"systemd-run -q --unit lab-gateway --setenv {KEYS.replace(' ', ' --setenv ')} emr-shs proxy serve --quiet --insecure"
            f" --listen {OTHER_GATEWAY} --log-uri s3://many/container-logs/ --event-logs {SOURCE} --index-db /srv/index/db"
            f" --endpoint-url http://{ADDRESS} --region eu-west-3 --history-server http://127.0.0.1:18080")


def new_node():
    """A node without a database, where another one has written a snapshot of 100,000 applications."""
    serve("-flat 100000 -sizes small")
    index("rebuild")
    control("delay?to=30ms")
    shown, fresh = [], []
    for _ in range(3):
        for options, times in (("--no-refresh", shown), ("", fresh)):
            sh("rm -rf /srv/index; mkdir /srv/index")
            seconds, memory, printed = index(f"search --limit 10 --json {options}")
            if printed.count('"id"') != 10:
                raise SystemExit(f"the snapshot gave no rows: {printed!r}")
            times += seconds
    answers = statistics.median(restart_until(ANSWERS) for _ in range(3))
    beside = "JVM start until the history server answers"
    page = statistics.median(gateway_shows_rows() for _ in range(3))
    row("new node, snapshot of 100,000 applications: the gateway's page shows the newest", page, beside, answers, "< 1")
    row("  index search --no-refresh shows all its rows", statistics.median(shown), beside, answers)
    row("  index search shows those of S3 now, 30 ms away", statistics.median(fresh), beside, answers)
    print(f"  peak memory {memory:.0f} MB", flush=True)


def idle_hour():
    """The processor time of an hour in which nothing happens, and of one in which one application ends between two looks."""
    serve("-flat 100000 -sizes small -delay 30ms")
    index("rebuild")
    *_, look = measured("search --limit 1", 10)
    *_, listing = measured("search --limit 1 --list-every 0", 3)
    control("add?count=1")
    # A snapshot is due if this database last tried to write one a quarter of an hour ago.
    with contextlib.closing(sqlite3.connect(root() / "srv/index/db")) as db, db:
        db.execute("DELETE FROM fact WHERE name = 'snapshot_tried'")
    *_, snapshot = measured("search --limit 1")
    hour = LOOKS_AN_HOUR * look + LISTINGS_AN_HOUR * (listing + snapshot)
    row("processor time of an hour, 100,000 applications", hour, "a core", 3600, "<= 0.01")
    print(f"  counted: a look {look:.3f} s, a listing {listing:.2f} s, a look with a snapshot {snapshot:.2f} s;"
          f" multiplied: {LOOKS_AN_HOUR} looks, {LISTINGS_AN_HOUR} listings and snapshots, starts of the command included", flush=True)


def an_hour():
    """The requests of an hour in which 60 of 10,000 rolling applications end. One listing and some looks are counted and multiplied."""
    def counted_for(arguments):
        control("reset")
        index(arguments)
        counted = counters()
        return {kind: counted[kind] for kind in ("LIST", "GET", "HEAD", "PUT", "OTHER")}

    serve("-flat 10000 -rolling 100 -sizes fixture")
    listing = counted_for("rebuild")["LIST"]
    counted_for("search --limit 1")
    looks, new = 10, 5
    idle = [counted_for("search --limit 1") for _ in range(looks - new)]
    busy = []
    for _ in range(new):
        control("add?count=1")
        busy.append(counted_for("search --limit 1"))
    look = statistics.mean(each["LIST"] for each in idle + busy)
    gets = statistics.mean(each["GET"] + each["HEAD"] for each in busy) - statistics.mean(each["GET"] + each["HEAD"] for each in idle)
    writes = statistics.mean(sum(each.values()) - each["LIST"] for each in idle)
    lists = LOOKS_AN_HOUR * look + LISTINGS_AN_HOUR * listing
    everything = lists + ENDS_AN_HOUR * gets + LOOKS_AN_HOUR * writes

    # The history server asks for one log after the other, and begins again 10 s after the last one. With 1,000 logs it sends nearly as
    # many requests an hour as with 10,000, which it would take an hour to list first.
    serve("-flat 1000 -rolling 100 -sizes fixture")
    history_server_reads(SOURCE, 7080)
    with_sparks_defaults()
    restart_until(listed(960))
    control("delay?to=30ms")
    time.sleep(60)
    control("reset")
    minutes = 3
    time.sleep(60 * minutes)
    counted = counters()
    history_server_reads(None, 7070)
    theirs_lists = counted["LIST"] * 60 / minutes
    theirs = sum(counted[kind] for kind in ("LIST", "GET", "HEAD", "PUT", "OTHER")) * 60 / minutes
    row("S3 requests of an hour, 10,000 rolling logs, 60 new", everything, f"history server with 1,000 of them, Spark's defaults, {minutes} minutes multiplied", theirs, "<= 0.01", "", 0)
    row("  LISTs of them", lists, "history server", theirs_lists, None, "", 0)
    print(f"  counted: {listing} LISTs a listing, {look:.1f} a look, {gets:.1f} GETs for a new log, {writes:.1f} others a look;"
          f" multiplied: {LISTINGS_AN_HOUR} listings, {LOOKS_AN_HOUR} looks, {ENDS_AN_HOUR} new logs", flush=True)


def a_million():
    """Serves 1,000,000 logs with an index of them, unless an earlier part has just done so."""
    options = "-flat 1000000 -sizes small"
    if served == options:
        return
    serve(options)
    seconds, memory, _ = index("rebuild --no-snapshot")
    size = int(sh("du -cm /srv/index/db* | tail -n 1 | cut -f 1"))
    print(f"  index of 1,000,000 small logs, S3 not away: {seconds[0]:.0f} s, peak memory {memory:.0f} MB, database {size} MB", flush=True)


def searches():
    """Searches among 1,000,000 applications, each a command of its own, its start included."""
    a_million()
    # Words that occur in one name each, from all over the time. The names repeat their kinds, so the step is a prime number.
    rows = sh(f"curl -sf {STAND_IN}/rows | awk 'NR % 4999 == 7'").splitlines()
    names = [json.loads(line)["name"] for line in rows]
    rare = next(name for name in names if "livy-batch" in name)
    kinds = {
        "the newest": "",
        "a rare substring": f"'{rare[11:]}'",
        "a substring of half of all": "airflow",
        "a substring of nine in ten, not written so": "LIVY",
        "an absent substring": "warehouse-compaction",
        "an absent substring of frequent parts": "airflow_orders_loads",
        "two words": "'orders airflow'",
        "two words that never meet": "'livy airflow'",
        "a user": "--user etl-prod",
        "a user and a text": "--user etl-prod ledger",
        "a time of 30 days": "--since 60d --until 30d",
        "those not completed": "--state incomplete",
        "those completed": "--state completed",
        "an absent substring of two letters": "qz",
        "page 5,000": "--limit 100 --offset 499900",
        "an application's id": json.loads(rows[3])["id"],
    }
    every, times = [], 30
    start = statistics.median(map(float, sh(f"python3 /srv/timed.py {times} emr-shs --version").split("\n")[0].split())) * 1000
    print(f"  {'':<44} p50      p99", flush=True)
    # Orders that the index does not have visit every row that fits.
    sorts = {"the longest of all": "--sort longest", "the longest of half of all": "--sort longest airflow"}
    for name, arguments in (kinds | sorts).items():
        options = "" if "--limit" in arguments else "--limit 100"
        taken, _, printed = index(f"search --no-refresh --no-snapshot --json {options} {arguments}", times)
        milliseconds = sorted(1000 * each for each in taken)
        every += milliseconds if name in kinds else []
        sorts |= {name: statistics.median(milliseconds)} if name in sorts else {}
        print(f"  {name:<44} {statistics.median(milliseconds):5.1f} ms {milliseconds[-1]:5.1f} ms   {printed.count(chr(10))} rows", flush=True)
    every.sort()
    row("search among 1,000,000, all kinds: p99", every[len(every) * 99 // 100], "the start of emr-shs alone", start, "<= 50 ms", "ms", 1)
    row("  p50", statistics.median(every), "the start of emr-shs alone", start, None, "ms", 1)
    for name, milliseconds in sorts.items():
        row(f"  {name}", milliseconds, "the start of emr-shs alone", start, None, "ms", 1)


PARTS = {part.__name__: part for part in (first_index, new_node, an_hour, idle_hour, searches)}


def measure(parts):
    """Calls these functions, with the stand-in on the node."""
    program = subprocess.run([ROOT / "lab/stand-ins/many-logs/build"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    node("cp", NODE, program, "/opt/lab/many-logs")
    subprocess.run(["cp", "-rT", ROOT / "tests/fixtures/yarn/eventlogs", root() / "srv/fixtures"], check=True)
    (root() / "srv/timed.py").write_text(TIMED)
    for part in parts:
        part()
    sh("systemctl stop lab-many; rm -rf /srv/index /srv/fixtures")
