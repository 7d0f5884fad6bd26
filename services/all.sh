#!/usr/bin/env bash
# The four services at once: all.sh start | stop | kill | restart | status | wipe
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

services=(pulsar postgres mariadb redis)

# side by side: the whole takes as long as the slowest
together() {
    local service failed=0
    local -a jobs=()
    for service in "${services[@]}"; do
        "$here/$service.sh" "$1" &
        jobs+=($!)
    done
    for service in "${jobs[@]}"; do wait "$service" || failed=1; done
    return $failed
}

each() {
    local service failed=0
    for service in "${services[@]}"; do "$here/$service.sh" "$1" || failed=1; done
    return $failed
}

table() {
    printf '\n%-10s %-58s %s\n' service address user
    each describe
}

case ${1:-} in
    start | restart)
        # shellcheck disable=SC2046 # one word a package
        install_packages $(each missing)
        together "$1"
        table ;;
    stop | kill) together "$1" ;;
    status | wipe) each "$1" ;;
    *) echo "usage: ${0##*/} start | stop | kill | restart | status | wipe" >&2; exit 2 ;;
esac
