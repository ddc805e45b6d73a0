#!/bin/sh
# Makes what docker compose needs and git must not see: passwords, the paper venue's key, and .env.
# Run it in the repository's top folder before the first `docker compose up`; running it again
# keeps what is there. For real money, put your own key into $secrets/private_key.
set -eu

secrets=${DRIFTLESS_SECRETS:-.driftless/secrets}
users="ingester aggregator risk executor reconciler ctl"

# Containers run as the owner of these files, since nobody else may read them.
uid=$(id -u)
gid=$(id -g)
if [ "$uid" = 0 ]; then
  uid=10001
  gid=10001
fi

umask 077
mkdir -p "$secrets"

password() { # 48 hex digits after a letter: nats-server reads "12e4" as a number
  printf 'p%s' "$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')"
}

for user in $users redis; do
  [ -s "$secrets/$user" ] || password > "$secrets/$user"
done
# The private key 1: everybody knows it, so it is worth nothing anywhere but in the paper venue.
[ -s "$secrets/private_key" ] || printf '%064d\n' 1 > "$secrets/private_key"
# Empty unless you let winnings be redeemed: see docs/reconciliation.md.
[ -e "$secrets/relayer_key" ] || : > "$secrets/relayer_key"

rm -f "$secrets/nats.env" "$secrets/redis.conf" # both follow from the passwords
for user in $users; do
  printf '%s_PASSWORD=%s\n' "$(echo "$user" | tr '[:lower:]' '[:upper:]')" "$(cat "$secrets/$user")"
done > "$secrets/nats.env"
printf 'requirepass %s\n' "$(cat "$secrets/redis")" > "$secrets/redis.conf"
chmod 400 "$secrets"/*
chown -R "$uid:$gid" "$secrets"

[ -e .env ] || cat > .env << ENV
DRIFTLESS_UID=$uid
DRIFTLESS_GID=$gid
DRIFTLESS_SECRETS=./${secrets#./}
DRIFTLESS_CONFIG=./deploy/config/demo.toml
COMPOSE_PROFILES=paper
ENV
echo "secrets in $secrets; settings for docker compose in .env"
