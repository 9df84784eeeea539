#!/bin/sh
# Makes a data folder of PostgreSQL from the archive, as it was at a moment.
#   sh restore.sh ARCHIVE DATA ['2026-01-31 12:34:56+00']
# DATA must not exist or be empty. Without a moment: as far as the archive reaches. Start PostgreSQL on it as its own user; it
# replays the WAL and opens by itself. Then run `starling migrate --restored` once, before any node starts.
set -eu
archive=${1:?the archive folder}
data=${2:?the new data folder}
moment=${3:-}
archive=$(cd "$archive" && pwd)
if [ -e "$data" ] && [ -n "$(ls -A "$data")" ]; then
  echo "restore.sh: $data is not empty" >&2
  exit 64
fi
# The newest base backup that ended before the moment.
base=
for candidate in $(find "$archive/base" -mindepth 1 -maxdepth 1 -type d ! -name '*.partial' | sort); do
  if [ -n "$moment" ]; then
    ended=$(stat -c %Y "$candidate/base.tar.gz")
    [ "$ended" -le "$(date -d "$moment" +%s)" ] || break
  fi
  base=$candidate
done
if [ -z "$base" ]; then
  echo "restore.sh: no base backup in $archive/base is old enough" >&2
  exit 1
fi
mkdir -p "$data"
chmod 0700 "$data"
tar --extract --gzip --file="$base/base.tar.gz" --directory="$data"
if [ -f "$base/pg_wal.tar.gz" ]; then tar --extract --gzip --file="$base/pg_wal.tar.gz" --directory="$data/pg_wal"; fi
{
  echo "restore_command = 'cp \"$archive/wal/%f\" \"%p\"'"
  echo "recovery_target_action = 'promote'"
  if [ -n "$moment" ]; then echo "recovery_target_time = '$moment'"; fi
  # The restored server must not write into the archive that it came from.
  echo "archive_mode = off"
} >> "$data/postgresql.auto.conf"
touch "$data/recovery.signal"
echo "$data is made from $base${moment:+, to be replayed to $moment}"
