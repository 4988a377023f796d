"""The gateway of install --index, and the history server behind it: their memory, pages, requests to S3 and restarts."""
import json
import pathlib
import statistics
import subprocess
import sys

from benches.index import ADDRESS, OTHER_GATEWAY, SOURCE, STAND_IN, a_million, serve, start_gateway
from benches.lab import ANSWERS, DEFAULTS, NODE, ROOT, listed, node, restart_until, root, row, sh, until, with_ours

CACHE = "file:///mnt/emr-shs/event-log-cache"
GATEWAY, HISTORY_SERVER = "http://127.0.0.1:9977", "http://127.0.0.1:18080"
HAS_A_LIST = "document.querySelectorAll(\"tbody a[href*='/history/']\").length >= 20"
HAS_JOBS = "document.body.innerText.includes('Completed Jobs')"


def install_index(source, count):
    """Installs with an index of so many applications of the stand-in."""
    sh("sed -i 's/127.0.0.1:7070/127.0.0.1:7080/' /etc/hadoop/conf/core-site.xml")
    sh(f"emr-shs install -q --event-logs {source} --index")
    until(f"test \"$(curl -sf {GATEWAY}/api/v1/applications | grep -c '\"id\"')\" -ge {count}")


def uninstall():
    sh("emr-shs uninstall -q; sed -i 's/127.0.0.1:7080/127.0.0.1:7070/' /etc/hadoop/conf/core-site.xml; systemctl restart spark-history-server")


def readable(url, condition, times=1):
    """The seconds until a page is readable, in a Chromium of this machine in the node's network."""
    systemd = node("pid", NODE, stdout=subprocess.PIPE).stdout.strip()
    command = ["nsenter", f"--net=/proc/{systemd}/ns/net", "--", sys.executable, ROOT / "scripts/benches/readable.py", url, condition, str(times)]
    printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    return list(map(float, printed.split()))


def ids():
    return {json.loads(line)["id"] for line in sh(f"curl -sf {STAND_IN}/rows").splitlines()}


def list_of_all():
    """The memory of a gateway while its REST API lists 1,000,000 attempts."""
    a_million()
    sh(start_gateway())
    until(f"curl -sf -o /dev/null 'http://{OTHER_GATEWAY}/api/v1/applications?limit=1'")
    # It lists everything, and writes the snapshot, before it rests.
    until(f"curl -sf http://{OTHER_GATEWAY}/-/metrics | grep -q 'index_s3_requests_total.*PUT.* [1-9]'")
    sh("sleep 5")
    status = f"/proc/{sh('systemctl show --property MainPID --value lab-gateway').strip()}/status"

    def megabytes(name):
        return int(sh(f"awk '/^{name}:/ {{ print $2 }}' {status}")) / 1024

    idle = megabytes("VmRSS")
    sh(f"echo 5 >{pathlib.Path(status).with_name('clear_refs')}")
    seconds = until(f"curl -sf http://{OTHER_GATEWAY}/api/v1/applications >/srv/list")
    attempts = int(sh("grep -c '\"startTime\"' /srv/list"))
    size = int(sh("stat -c %s /srv/list; rm /srv/list"))
    row(f"memory while the REST API lists {attempts:,} attempts", megabytes("VmHWM"), "before it", idle, "<= 150 MB", "MB", 0)
    print(f"  the list: {size / 1e6:.0f} MB in {seconds:.0f} s", flush=True)
    sh("systemctl stop lab-gateway")


# The stand-in's applications as event logs in a directory. A small log has no more than this.
WRITE_LOGS = """
import json, sys
for line in sys.stdin:
    log = json.loads(line)
    name = log["id"] + ("_" + log["attempt"] if "attempt" in log else "")
    event = {"Event": "SparkListenerApplicationStart", "App Name": log["name"], "App ID": log["id"], "Timestamp": log["started"], "User": log["user"]}
    if "attempt" in log:
        event["App Attempt ID"] = log["attempt"]
    events = [{"Event": "SparkListenerLogStart", "Spark Version": log["spark"]}, event]
    if log["completed"]:
        events.append({"Event": "SparkListenerApplicationEnd", "Timestamp": log["ended"]})
    with open("/srv/listed/" + name + ("" if log["completed"] else ".inprogress"), "w") as file:
        # Spark looks for the beginning of a line as it writes it: without blanks.
        file.writelines(json.dumps(event, separators=(",", ":")) + "\\n" for event in events)
"""


def front_page():
    """A restart of the history server with an index of 100,000 applications, and the list of them in a browser."""
    bare = statistics.median(restart_until(ANSWERS) for _ in range(3))
    serve("-flat 100000 -sizes small")
    count = len(ids())
    install_index(SOURCE, count)
    ours = statistics.median(restart_until(ANSWERS) for _ in range(3))
    row(f"restart with {count:,} applications in the index", ours, "restart before the installation, with none to list", bare, "<= 1.1")

    page = statistics.median(readable(f"{GATEWAY}/", HAS_A_LIST, 5))
    (root() / "srv/write_logs.py").write_text(WRITE_LOGS)
    sh(f"mkdir /srv/listed; curl -sf {STAND_IN}/rows | python3 /srv/write_logs.py")
    # It must not look at 100,000 files each second.
    sh(f"cp -p {DEFAULTS} /root/ours.conf; sed -i 's#{CACHE}#file:///srv/listed#; s/update.interval .*/update.interval 1h/' {DEFAULTS}")
    took = restart_until(listed(count))
    theirs = statistics.median(readable(f"{HISTORY_SERVER}/?showIncomplete=false", HAS_A_LIST, 3))
    row(f"/ with {count:,} applications, in Chromium", page, "the history server's own front page, which lists the same", theirs, "<= 0.05")
    print(f"  the history server listed them, from local files, after {took:.0f} s", flush=True)
    with_ours()
    uninstall()
    sh("rm -r /srv/listed")


def large_log(name):
    """An event log of 100 MB: a real one whose stage has so many tasks."""
    lines = (root() / "srv/fixtures/application_1795352263709_0003").read_text().splitlines(keepends=True)
    task = [line for line in lines if '"Task ID":0,' in line]
    ending = [n for n, line in enumerate(lines) if "TaskEnd" in line][-1] + 1
    begin = [line for line in lines[:ending] if '"Task ID":' not in line]
    count = (100_000_000 - len("".join(begin))) // len("".join(task))
    tasks = ("".join(task).replace('"Task ID":0,"Index":0,', f'"Task ID":{n},"Index":{n},') for n in range(count))
    text = "".join([*begin, *tasks, *lines[ending:]])
    return text.replace('"Number of Tasks":4', f'"Number of Tasks":{count}').replace("application_1795352263709_0003", name)


def opening():
    """The jobs of applications with event logs of 100 MB, which are not in the cache, in a browser."""
    serve("-flat 0")
    names = [f"application_1795352263709_{n}" for n in range(9001, 9004)]
    for name in names:
        (root() / "srv/large").write_text(large_log(name))
        sh(f"curl -sSf -T /srv/large http://{ADDRESS}/many/flat/{name}")
    install_index(SOURCE, len(names))
    ours, theirs = [], []
    for in_cache, name in enumerate(names):
        # It lists anew what is in the cache. Theirs has listed everything, too.
        restart_until(f"{ANSWERS} && {listed(in_cache)}")
        ours += readable(f"{GATEWAY}/history/{name}/jobs/", HAS_JOBS)
    # A start deletes what has been parsed.
    for name in names:
        restart_until(listed(len(names)))
        theirs += readable(f"{HISTORY_SERVER}/history/{name}/jobs/", HAS_JOBS)
    row("jobs of an application of 100 MB, in Chromium", statistics.median(ours), "a history server that lists it already", statistics.median(theirs), "<= 1.1 x + 2 s")
    uninstall()
    sh("rm /srv/large")


def server_requests():
    """The requests that the history server sends to S3 in a minute in which applications are opened."""
    sh("/opt/lab/s3 put-tree /srv/fixtures s3://acme-spark/index/ >/dev/null")

    def a_minute():
        sh(": >/var/log/lab-s3.log")
        for name in ("0001/1", "0003", "0013/1"):
            sh(f"curl -sf --retry 9 --retry-all-errors -o /dev/null {GATEWAY}/api/v1/applications/application_1795352263709_{name}/jobs")
        sh("sleep 60")
        return int(sh("grep -ci java /var/log/lab-s3.log || true"))

    sh("emr-shs install -q --event-logs s3://acme-spark/index/")
    until(listed(9))
    before = a_minute()
    sh("emr-shs install -q --index")
    row("S3 requests of the history server, of a minute", a_minute(), "emr-shs without an index, 10 logs", before, "0", "", 0)
    sh("emr-shs uninstall -q; /opt/lab/s3 rm 's3://acme-spark/index/*'")


PARTS = {part.__name__: part for part in (list_of_all, front_page, opening, server_requests)}
