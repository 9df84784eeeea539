#!/bin/sh
# Copies one WAL segment into the archive. In postgresql.conf:
#   archive_mode = on
#   archive_timeout = 60
#   archive_command = '/path/to/archive.sh /archive %p %f'
# PostgreSQL keeps a segment until this ends with 0, so it must never say so before the copy is on the disk.
set -eu
archive=${1:?the archive folder}
segment=${2:?path of the segment}
name=${3:?name of the segment}
mkdir -p "$archive/wal"
target=$archive/wal/$name
if [ -f "$target" ]; then
  # PostgreSQL may ask twice, for example after a crash. The same content is fine, another one is not.
  cmp -s "$segment" "$target" && exit 0
  echo "archive.sh: $target exists with other content" >&2
  exit 1
fi
cp "$segment" "$target.partial"
sync "$target.partial"
mv "$target.partial" "$target"
sync "$archive/wal"
