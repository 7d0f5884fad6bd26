# shellcheck shell=bash
# What every service shares: where its files are, packages, one process in the background, and the verbs.
#
# A service's script sets `name`, `user`, `ports` (VARIABLE=port …), `address`, `login` and `stop_signal`, and defines
#   missing   prints the Debian packages it lacks
#   prepare   makes the data folder and what else a start needs
#   launch    calls `background` with the server's command
#   healthy   succeeds once the server answers
# and ends with `verb "$@"`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
SERVICES_DIR=${SERVICES_DIR:-$here/var}
START_TIMEOUT=${START_TIMEOUT:-120}
STOP_TIMEOUT=${STOP_TIMEOUT:-60}

name=services user='' ports='' address='' login='' stop_signal=''

say() { echo "$name: $*"; }
fail() { say "$@" >&2; exit 1; }

# --- packages ---------------------------------------------------------------------------------------------------------

# needs COMMAND PACKAGE: prints the package if the command is not there
needs() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || echo "$2"; }

install_packages() {
    [ $# -gt 0 ] || return 0
    local command="apt-get install --yes --no-install-recommends $*"
    [ "$EUID" -eq 0 ] || fail "packages are missing; as root: $command"
    say "installing $*"
    mkdir -p "$SERVICES_DIR"
    "$here/install.sh" "$@" >"$SERVICES_DIR/install.log" 2>&1 </dev/null || {
        tail -n 20 "$SERVICES_DIR/install.log" >&2
        fail "cannot install; try: $command"
    }
}

# --- folders and users ------------------------------------------------------------------------------------------------

open_folder() {
    mkdir -p "$SERVICES_DIR/$name"
    dir=$(cd "$SERVICES_DIR/$name" && pwd -P)
    data=$(readlink -m "$dir/data")
    log=$dir/log
    pidfile=$dir/pid
    as_user=()
    # these servers refuse root, or should not have its rights
    if [ "$EUID" -eq 0 ] && [ -n "$user" ]; then
        as_user=(setpriv --reuid "$user" --regid "$user" --init-groups)
    fi
}

# A data folder made in full or not at all: fill_data DIR fills it.
make_data() {
    [ -e "$data" ] && return 0
    if [ ${#as_user[@]} -gt 0 ] && [ ! -L "$dir/data" ] && ! "${as_user[@]}" test -x "$dir"; then
        # a closed folder above (/root is one) hides this one from the server's user
        data=$(mktemp -d "/var/lib/infinitic-$name.XXXXXX")/data
        chmod 755 "${data%/data}"
        ln -sfn "$data" "$dir/data"
        say "$user cannot reach $dir; its data is in $data"
    fi
    rm -rf "$data.new"
    mkdir -p "$data.new"
    chmod 700 "$data.new"
    if [ ${#as_user[@]} -gt 0 ]; then chown "$user:" "$data.new"; fi
    fill_data "$data.new" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; fail "cannot make the data folder"; }
    mv "$data.new" "$data"
}

# --- one process ------------------------------------------------------------------------------------------------------

# The process of the pid file, if it is ours: the number may be another's after a reboot, or a zombie's.
pid() {
    local pid
    pid=$(cat "$pidfile" 2>/dev/null) && [ -n "$pid" ] &&
        tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -e "$data" -e "$dir/" && echo "$pid"
}

running() { pid >/dev/null; }

# Lives on after this shell, in a session of its own; holds none of the caller's pipes or locks.
background() {
    [ ! -e "$log" ] || mv "$log" "$log.1"
    setsid "${as_user[@]}" "$@" >"$log" 2>&1 </dev/null 3>&- 4>&- 8>&- 9>&- &
    echo $! >"$pidfile"
}

ports_free() {
    local port
    for port in $ports; do
        # the redirection connects; the subshell closes it again
        if (: <>"/dev/tcp/127.0.0.1/${port#*=}") 2>/dev/null; then
            fail "port ${port#*=} is in use by something else; ${port%=*} chooses another"
        fi
    done
}

give_up() {
    tail -n 20 "$log" | sed 's/^/    /' >&2
    fail "$1; its log is $log"
}

wait_healthy() {
    local deadline=$((SECONDS + START_TIMEOUT))
    until healthy >/dev/null 2>&1; do
        alive "$(cat "$pidfile")" || give_up "stopped by itself while it was starting"
        [ "$SECONDS" -lt "$deadline" ] || give_up "not healthy after $START_TIMEOUT s"
        sleep 0.1
    done
}

# --- verbs ------------------------------------------------------------------------------------------------------------

start() {
    local began
    if running; then
        wait_healthy
        say "already running (pid $(pid))"
        return
    fi
    # shellcheck disable=SC2046 # one word a package
    install_packages $(missing)
    ports_free
    prepare
    began=$(date +%s%N)
    launch
    wait_healthy
    say "started in $((($(date +%s%N) - began) / 1000000)) ms (pid $(pid))"
}

# end SIGNAL: the server, and with KILL its children too: none is left to finish what it began
end() {
    local server others=() deadline=$((SECONDS + STOP_TIMEOUT))
    server=$(pid) || { rm -f "$pidfile"; say "not running"; return; }
    [ "$1" != KILL ] || read -ra others <"/proc/$server/task/$server/children" || true
    kill "-$1" "$server" "${others[@]}" 2>/dev/null || true
    while alive "$server" "${others[@]}"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "still there $STOP_TIMEOUT s after SIG$1 (pid $server)"
        sleep 0.02
    done
    rm -f "$pidfile"
    say "stopped (SIG$1)"
}

# alive PID…: whether any has a thread left. A zombie is none (a container's first process may bury nobody), but the
# first thread is one before the others have ended and their ports are free.
alive() {
    local pid
    for pid in "$@"; do
        ! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/task/"*/status || return 0
    done
    return 1
}

status() {
    local pid port=${ports%% *}
    if pid=$(pid); then
        printf '%-10s pid %-8s port %-6s RSS %s MiB\n' "$name" "$pid" "${port#*=}" \
            "$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status")"
    else
        printf '%-10s stopped\n' "$name"
        return 1
    fi
}

wipe() {
    ! running || fail "running; stop it first"
    rm -rf "$data" "$dir/data" "$dir/tmp" "$log" "$log.1"
    # the folder of its own that make_data may have made
    case $data in /var/lib/infinitic-*) rmdir "${data%/data}" ;; esac
    say "wiped"
}

verb() {
    open_folder
    case ${1:-} in
        start | stop | kill | restart | wipe) # one at a time
            exec 9>"$dir/lock"
            flock --wait 300 9 || fail "another command holds $dir/lock" ;;&
        start) start ;;
        stop) end "$stop_signal" ;;
        kill) end KILL ;;
        restart) end "$stop_signal"; start ;;
        status) status ;;
        wipe) wipe ;;
        log) tail -n "${2:-60}" "$log" ;;
        missing) missing ;;
        describe) printf '%-10s %-58s %s\n' "$name" "$address" "$login" ;;
        *) echo "usage: ${0##*/} start | stop | kill | restart | status | wipe | log [lines]" >&2; exit 2 ;;
    esac
}
