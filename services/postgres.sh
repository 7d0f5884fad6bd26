#!/usr/bin/env bash
# PostgreSQL 15 on loopback. POSTGRES_PORT chooses its port; POSTGRES_ARGS adds to its command ("-c fsync=off").
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

POSTGRES_PORT=${POSTGRES_PORT:-5432}
bin=/usr/lib/postgresql/15/bin
name=postgres
user=postgres
ports="POSTGRES_PORT=$POSTGRES_PORT"
address="postgresql://infinitic:infinitic@127.0.0.1:$POSTGRES_PORT/infinitic"
login=infinitic
stop_signal=INT # TERM would wait for every client to leave

missing() { needs "$bin/postgres" postgresql-15; }

fill_data() {
    (cd "$1" && "${as_user[@]}" "$bin/initdb" --pgdata="$1" --username=postgres --auth=reject \
        --encoding=UTF8 --locale=C.UTF-8)
    echo "host all infinitic 127.0.0.1/32 scram-sha-256" >"$1/pg_hba.conf"
    # a single-user server needs no password, port or socket
    (cd "$1" && "${as_user[@]}" "$bin/postgres" --single -D "$1" postgres) <<-'SQL'
	CREATE ROLE infinitic LOGIN CREATEDB PASSWORD 'infinitic';
	CREATE DATABASE infinitic OWNER infinitic;
	SQL
}

prepare() {
    local last
    make_data
    # it takes a zombie of the last server for a running one
    last=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || return 0
    alive "$last" || rm -f "$data/postmaster.pid"
}

launch() {
    local -a arguments
    read -ra arguments <<<"${POSTGRES_ARGS:-}"
    cd "$data"
    background "$bin/postgres" -D "$data" -c listen_addresses=127.0.0.1 -c port="$POSTGRES_PORT" \
        -c unix_socket_directories= -c max_connections=200 -c fsync=on -c synchronous_commit=on "${arguments[@]}"
}

healthy() { "$bin/pg_isready" --quiet --timeout=2 --host=127.0.0.1 --port="$POSTGRES_PORT"; }

verb "$@"
