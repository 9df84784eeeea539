#!/bin/sh
# Draws the secrets of three-nodes.yaml into the folder secrets/ beside this file. Keeps those that are there.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
draw() { [ -s "secrets/$1" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$1"; }
draw jwt_secret
draw postgres_password
draw redis_password
draw grafana_password
printf 'postgres://starling:%s@postgres/starling' "$(cat secrets/postgres_password)" > secrets/database_url
printf 'redis://default:%s@redis:6379' "$(cat secrets/redis_password)" > secrets/redis_url
# The containers run as users of their own, and have to read them.
chmod 0444 secrets/*
echo "secrets are in $PWD/secrets; the password of Grafana's admin is $(cat secrets/grafana_password)"
