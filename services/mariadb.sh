#!/usr/bin/env bash
# MariaDB 10.11 on loopback. MARIADB_PORT chooses its port; MARIADB_ARGS adds to its command.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MARIADB_PORT=${MARIADB_PORT:-3306}
name=mariadb
user=mysql
ports="MARIADB_PORT=$MARIADB_PORT"
address="mysql://infinitic:infinitic@127.0.0.1:$MARIADB_PORT/infinitic"
login=infinitic
stop_signal=TERM

# the core packages bring the programs, without a server of the system
missing() {
    needs mariadbd mariadb-server-core
    needs mariadb mariadb-client-core
}

fill_data() {
    "${as_user[@]}" mariadb-install-db --no-defaults --skip-test-db --auth-root-authentication-method=normal \
        --datadir="$1"
}

prepare() {
    # the core packages do not make the user that mariadb-server would
    if [ "$EUID" -eq 0 ] && ! getent passwd mysql >/dev/null; then
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mysql
    fi
    make_data
    # read at each start, before the first client is let in
    cat >"$data/users.sql" <<-'SQL'
	DROP USER IF EXISTS ''@'localhost', 'root'@'127.0.0.1', 'root'@'::1';
	CREATE USER IF NOT EXISTS infinitic@'%' IDENTIFIED BY 'infinitic';
	GRANT ALL ON *.* TO infinitic@'%';
	CREATE DATABASE IF NOT EXISTS infinitic;
	SQL
}

launch() {
    local -a arguments
    read -ra arguments <<<"${MARIADB_ARGS:-}"
    # the socket is relative to the data folder: a whole path may be longer than a socket's may be
    background /usr/sbin/mariadbd --no-defaults --datadir="$data" --bind-address=127.0.0.1 --port="$MARIADB_PORT" \
        --socket=mariadb.sock --pid-file=mariadb.pid --init-file="$data/users.sql" --skip-name-resolve \
        --character-set-server=utf8mb4 --collation-server=utf8mb4_general_ci --max-connections=200 \
        --innodb-flush-log-at-trx-commit=1 "${arguments[@]}"
}

healthy() {
    MYSQL_PWD=infinitic mariadb --no-defaults --protocol=tcp --host=127.0.0.1 --port="$MARIADB_PORT" \
        --user=infinitic --connect-timeout=2 --execute="SELECT 1" infinitic
}

verb "$@"
