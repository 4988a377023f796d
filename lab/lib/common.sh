# Messages, the cache directory, locks and scratch directories, for the scripts of this tree. Sourced, not run.
# shellcheck shell=bash

cache=${EMR_SHS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/emr-shs}
# shellcheck disable=SC2034  # used by the scripts that source this file
downloads=$cache/downloads

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND HINT: fails with the hint if the command is not installed.
need() { command -v "$1" >/dev/null 2>&1 || die "'$1' is not installed; $2"; }

# locked NAME: takes a lock until 'unlock' or the end of this process, so that two processes do not build the same thing.
locked() {
  mkdir -p "$cache/locks"
  exec {lock_fd}>"$cache/locks/$1"
  if ! flock -n "$lock_fd"; then
    say "waiting for another '$1' on this machine"
    flock "$lock_fd"
  fi
}

# scratch: sets REPLY to a new directory in the cache, on whose file system a rename is atomic. It is removed when the script
# ends.
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
