#!/bin/sh
# Takes a base backup of PostgreSQL into ARCHIVE/base/TIME, and removes what the kept ones do not need.
#   DATABASE_URL=postgres://… sh backup.sh ARCHIVE [KEEP]
# KEEP is the number of base backups to keep (7). With METRICS_DIR set, it writes starling_backup.prom there, for the text-file
# collector of node_exporter. The user needs the attribute REPLICATION.
set -eu
archive=${1:?the archive folder}
keep=${2:-7}
: "${DATABASE_URL:?the address of PostgreSQL}"
case $keep in '' | 0 | *[!0-9]*) echo "backup.sh: KEEP is not a number of 1 or more: $keep" >&2; exit 64 ;; esac

mkdir -p "$archive/base" "$archive/wal"
# What an interrupted run left behind.
rm -rf "$archive"/base/*.partial
now=$(date -u +%Y-%m-%dT%H-%M-%SZ)
pg_basebackup --dbname="$DATABASE_URL" --pgdata="$archive/base/$now.partial" --format=tar --gzip --wal-method=fetch \
  --checkpoint=fast --label="starling $now" --no-password
# A backup that can't be read is none.
for part in "$archive/base/$now.partial"/*.gz; do gzip --test "$part"; done
mv "$archive/base/$now.partial" "$archive/base/$now"
# pg_basebackup has written its files to the disk, but not this name.
sync "$archive/base"

# Names are times, so the oldest sort first.
total=$(find "$archive/base" -mindepth 1 -maxdepth 1 -type d | wc -l)
find "$archive/base" -mindepth 1 -maxdepth 1 -type d | sort | head -n "$((total > keep ? total - keep : 0))" | while read -r old; do
  rm -rf "$old"
done
# WAL from before the oldest kept base backup is of no use.
oldest=$(find "$archive/base" -mindepth 1 -maxdepth 1 -type d | sort | head -n 1)
first=$(tar --extract --gzip --to-stdout --file="$oldest/base.tar.gz" backup_label | sed -n 's/^START WAL LOCATION: .*(file \(.*\))$/\1/p')
pg_archivecleanup "$archive/wal" "$first"

if [ -n "${METRICS_DIR:-}" ]; then
  {
    echo "# HELP starling_backup_completed_timestamp_seconds When the last base backup ended."
    echo "# TYPE starling_backup_completed_timestamp_seconds gauge"
    echo "starling_backup_completed_timestamp_seconds $(date +%s)"
  } > "$METRICS_DIR/starling_backup.prom.partial"
  mv "$METRICS_DIR/starling_backup.prom.partial" "$METRICS_DIR/starling_backup.prom"
fi
echo "base backup $now, $(du -sh "$archive/base/$now" | cut -f1)"
