#!/usr/bin/env python3
"""Prints what a running node holds that its layers do not, a line a fact: two equal outputs mean that nothing was changed.

    fingerprint.py NODE_DIR PID      PID is the node's systemd

Facts are files with their modes, owners, extended attributes (the S3 server keeps policies there) and contents; the
temporary files below the paths in RUN; processes with their start times; mounts; the laptop's network. The script leaves
out logs, and files that systemd writes while it runs.
"""
import hashlib
import os
import pathlib
import re
import stat
import sys

node, pid = pathlib.Path(sys.argv[1]), sys.argv[2]
ASIDE = re.compile(r"^(mnt/var/log|var/log|var/lib/systemd|var/cache|tmp|run|etc/\.pwd\.lock|(etc/(passwd|shadow|group|gshadow)-))(/|$)")
# The temporary files that count. The script leaves out everything else below /run: the node's services write there.
RUN = ["run/systemd/system", "run/systemd/transient", "run/emr-shs.lock", "tmp", "var/tmp", "dev/shm"]


def fact(name, path):
    try:
        found = path.lstat()
        text = f"{name} {found.st_mode:o} {found.st_uid}:{found.st_gid}"
        if stat.S_ISLNK(found.st_mode):
            return f"{text} -> {os.readlink(path)}"
        if stat.S_ISREG(found.st_mode):
            # A large file is the same while nobody has written to it.
            content = f"{found.st_mtime_ns}" if found.st_size > 1 << 20 else hashlib.sha256(path.read_bytes()).hexdigest()
            text += f" {found.st_size} {content}"
        attributes = {key: os.getxattr(path, key).hex() for key in os.listxattr(path) if not key.startswith("trusted.overlay.")}
        return f"{text} {sorted(attributes.items())}" if attributes else text
    except FileNotFoundError:
        return f"{name} gone"


def below(top, aside=None):
    for directory, directories, files in os.walk(top):
        at = pathlib.Path(directory)
        for name in directories[:] + files:
            path = at / name
            relative = str(path.relative_to(top))
            if aside and aside.match(relative):
                if name in directories:
                    directories.remove(name)
                continue
            yield relative, path


lines = [fact(name, path) for name, path in below(node / "upper", ASIDE)]
inside = pathlib.Path(f"/proc/{pid}/root")
for name in RUN:
    lines.append(fact(name, inside / name))
    lines += [fact(f"{name}/{below_it}", path) for below_it, path in below(inside / name) if not re.match(r"systemd-private|hsperfdata_", below_it)]
space = os.stat(f"/proc/{pid}/ns/pid").st_ino
for process in os.listdir("/proc"):
    try:
        if process.isdigit() and os.stat(f"/proc/{process}/ns/pid").st_ino == space:
            words = pathlib.Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            start = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[19]
            lines.append(f"process {start} {words}")
    except OSError:  # The process has ended, or belongs to the kernel.
        pass
for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
    fields = line.split(" - ")
    lines.append(f"mount {' '.join(fields[0].split()[3:6])} {fields[1]}")
lines.append(f"laptop {(node / 'laptop').exists()}")
print("\n".join(sorted(lines)))
