# Shared by lab/node and lab/fetch-deps: messages, the cache directory, locks. Sourced, not run.
# shellcheck shell=bash

cache=${EMR_SHS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/emr-shs}
# shellcheck disable=SC2034  # used by the scripts that source this file
downloads=$cache/downloads

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND HINT: stops with the hint when the command is not installed.
need() { command -v "$1" >/dev/null 2>&1 || die "'$1' is not installed; $2"; }

# locked NAME: holds the lock of that name until this process ends, so that two callers do not build the same thing at once.
locked() {
  mkdir -p "$cache/locks"
  exec {lock_fd}>"$cache/locks/$1"
  if ! flock -n "$lock_fd"; then
    say "waiting for another '$1' on this machine"
    flock "$lock_fd"
  fi
}

# scratch: a new directory inside the cache (same file system, so a rename is atomic); it is removed when the script ends.
scratch_dirs=()
remove_scratch() {
  local dir mounted
  for dir in "${scratch_dirs[@]}"; do
    # An interrupted debootstrap leaves /proc and /sys mounted in there.
    while read -r mounted; do umount --lazy "$mounted"; done < <(awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r)
    rm -rf --one-file-system "$dir"
  done
}
trap remove_scratch EXIT
scratch() {
  mkdir -p "$cache/tmp"
  find "$cache/tmp" -mindepth 1 -maxdepth 1 -mtime +1 -exec rm -rf --one-file-system {} +
  REPLY=$(mktemp -d "$cache/tmp/XXXXXXXX")
  scratch_dirs+=("$REPLY")
}

unlock() { exec {lock_fd}>&-; }
