#!/usr/bin/env bash
# Redis 7 on loopback. REDIS_PORT chooses its port; REDIS_ARGS adds to its command ("--requirepass secret").
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

REDIS_PORT=${REDIS_PORT:-6379}
name=redis
user=redis
ports="REDIS_PORT=$REDIS_PORT"
address="redis://127.0.0.1:$REDIS_PORT/0"
login=-
stop_signal=TERM

missing() { needs redis-server redis-server; }

fill_data() { :; }

prepare() { make_data; }

launch() {
    local -a arguments
    read -ra arguments <<<"${REDIS_ARGS:-}"
    # every write is in the append-only file before its answer, so kill -9 loses none; its title keeps the path that
    # says the process is ours
    background redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$data" --daemonize no \
        --set-proc-title no --save "" --appendonly yes --appendfsync everysec "${arguments[@]}"
}

# an answer of any kind but "loading": REDIS_ARGS may ask for a password, NOAUTH is then as good as PONG
healthy() { redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping | grep -E "PONG|NOAUTH"; }

verb "$@"
