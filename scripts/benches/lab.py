"""The lab node on which scripts/bench measures, and how a figure is printed beside its baseline."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = pathlib.Path(os.environ.get("EMR_SHS_CACHE") or pathlib.Path.home() / ".cache/emr-shs")
NODE = "bench"
DEFAULTS = "/etc/spark/conf.dist/spark-defaults.conf"
OURS = r"^spark\.history\.(store|fs\.update\.interval|fs\.numReplayThreads)"


def node(*arguments, **options):
    return subprocess.run([ROOT / "lab/node", *arguments], check=True, text=True, **options)


def sh(line):
    """Runs a line of shell on the node. Returns its output."""
    return node("exec", NODE, "--", "bash", "-c", line, stdout=subprocess.PIPE).stdout


def root():
    """The node's root directory on this machine."""
    return pathlib.Path(node("root", NODE, stdout=subprocess.PIPE).stdout.strip())


def row(what, value, baseline_name, baseline, goal=None, unit="s", digits=2):
    ratio = value / baseline
    wanted = f"   goal {goal}" if goal else ""
    print(f"{what:<52} {value:9.{digits}f} {unit:<4} {baseline_name}: {baseline:.{digits}f} {unit}   ratio {ratio:.2f}{wanted}", flush=True)


def until(condition, first=":"):
    """Seconds until a line of shell succeeds on the node. It is repeated in the node, because a start of lab/node takes time."""
    return float(sh(f"begin=$(date +%s.%N); {first}; until {condition}; do sleep 0.05; done; echo $(date +%s.%N) $begin | awk '{{print $1 - $2}}'"))


ANSWERS = "curl -sf -o /dev/null http://127.0.0.1:18080/api/v1/version"


def listed(count):
    return f'test "$(curl -sf http://127.0.0.1:18080/api/v1/applications | grep -c attempts)" -ge {count}'


def restart_until(condition, before=":"):
    return until(condition, f"{before}; systemctl restart spark-history-server")


def with_sparks_defaults():
    """The same installation without the keys that emr-shs tunes."""
    sh(f"cp -p {DEFAULTS} /root/ours.conf; sed -E -i '/{OURS}/d' {DEFAULTS}")


def with_ours():
    sh(f"cp -p /root/ours.conf {DEFAULTS}")
