#!/usr/bin/env bash
# Apache Pulsar standalone on loopback, from Maven's artefacts (pulsar/pom.xml says which version). By environment:
#   PULSAR_PORT, PULSAR_WEB_PORT, PULSAR_BOOKIE_PORT
#   PULSAR_EXTRA_CONF   a file of lines that replace or add to pulsar/standalone.conf
#   PULSAR_JVM_ARGS     added to the JVM's arguments
#   PULSAR_ADMIN_URL, PULSAR_ADMIN_ARGS   where and with which curl options to ask for its health, if it wants a login
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PULSAR_PORT=${PULSAR_PORT:-6650}
PULSAR_WEB_PORT=${PULSAR_WEB_PORT:-8080}
PULSAR_BOOKIE_PORT=${PULSAR_BOOKIE_PORT:-3181}
PULSAR_ADMIN_URL=${PULSAR_ADMIN_URL:-http://127.0.0.1:$PULSAR_WEB_PORT}
jars=${PULSAR_JARS:-$here/var/pulsar/jars} # every instance has the same
name=pulsar
user=
ports="PULSAR_PORT=$PULSAR_PORT PULSAR_WEB_PORT=$PULSAR_WEB_PORT PULSAR_BOOKIE_PORT=$PULSAR_BOOKIE_PORT"
address="pulsar://127.0.0.1:$PULSAR_PORT http://127.0.0.1:$PULSAR_WEB_PORT"
login=-
stop_signal=TERM

java=${JAVA_HOME:+$JAVA_HOME/bin/}java

missing() {
    needs "$java" openjdk-17-jre-headless
    fetched || needs mvn maven
    needs curl curl
}

fetched() { cmp --silent "$here/pulsar/pom.xml" "$jars/pom.xml"; }

fetch() {
    mkdir -p "${jars%/*}"
    exec 8>"$jars.lock" # another instance may be fetching the same
    flock --wait 600 8 || fail "another command holds $jars.lock"
    if fetched; then return; fi
    say "fetching the jars (240 MB)"
    rm -rf "$jars.new"
    mkdir -p "$jars.new"
    mvn --batch-mode --quiet --file "$here/pulsar/pom.xml" package -Djars.dir="$jars.new" >"$log" 2>&1 </dev/null || {
        tail -n 20 "$log" >&2
        fail "cannot fetch the jars"
    }
    cp "$here/pulsar/pom.xml" "$jars.new" # last: what makes them complete
    rm -rf "$jars"
    mv "$jars.new" "$jars"
    exec 8>&-
}

# Our settings, each replaced by the extra file's if that has it: no key may stand twice.
configuration() {
    awk '
        { sub(/\r$/, "") }
        /^[ \t]*([#!]|$)/ { next }
        { key = $0; sub(/[ \t]*[=:].*/, "", key); sub(/^[ \t]+/, "", key) }
        !(key in line) { order[++n] = key }
        { line[key] = $0 }
        END { for (i = 1; i <= n; i++) print line[order[i]] }
    ' "$here/pulsar/standalone.conf" - ${PULSAR_EXTRA_CONF:+"$PULSAR_EXTRA_CONF"} <<-CONF
	brokerServicePort=$PULSAR_PORT
	webServicePort=$PULSAR_WEB_PORT
	CONF
}

prepare() {
    local major
    case $dir in *[!A-Za-z0-9._~/+@-]*) # it makes a URI of it
        fail "it cannot have its data under $dir, for the characters in that; SERVICES_DIR chooses another folder" ;;
    esac
    major=$("$java" -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge 17 ] || fail "Java 17 or newer is needed, this is ${major:-none}; JAVA_HOME chooses another"
    fetched || fetch
    configuration >"$dir/standalone.conf" || fail "cannot read $PULSAR_EXTRA_CONF"
    # the native libraries it unpacks stay behind after kill -9
    rm -rf "$dir/tmp"
    mkdir -p "$dir/tmp" "$data"
}

launch() {
    local package
    local -a opens=() arguments
    for package in java.base/java.io java.base/java.nio java.base/java.util.zip java.base/sun.net \
        java.base/jdk.internal.misc java.base/jdk.internal.platform \
        java.management/sun.management jdk.management/com.sun.management.internal; do
        opens+=(--add-opens "$package=ALL-UNNAMED")
    done
    read -ra arguments <<<"${PULSAR_JVM_ARGS:-}"
    cd "$dir"
    background "$java" -Xms256m -Xmx1g -XX:MaxDirectMemorySize=1g -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError \
        -Djava.io.tmpdir="$dir/tmp" -Djava.net.preferIPv4Stack=true -Dio.netty.tryReflectionSetAccessible=true \
        -Djute.maxbuffer=10485760 -Dpulsar.allocator.exit_on_oom=true \
        -Dlog4j.shutdownHookEnabled=false -Dlog4j.configurationFile="$here/pulsar/log4j2.xml" \
        -Dbookkeeper.metadata.bookie.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataBookieDriver \
        -Dbookkeeper.metadata.client.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataClientDriver \
        --enable-native-access=ALL-UNNAMED "${opens[@]}" "${arguments[@]}" -cp "$jars/*" \
        org.apache.pulsar.PulsarStandaloneStarter --config "$dir/standalone.conf" \
        --no-functions-worker --no-stream-storage \
        --metadata-dir "$data/metadata" --bookkeeper-dir "$data/bookkeeper" \
        --bookkeeper-port "$PULSAR_BOOKIE_PORT" --num-bookies 1
}

ask() {
    local -a arguments
    read -ra arguments <<<"${PULSAR_ADMIN_ARGS:-}"
    curl --fail --silent --max-time 5 "${arguments[@]}" "$PULSAR_ADMIN_URL/admin/v2/$1"
}

# the namespace is the last thing that a first start makes
healthy() { [ "$(ask brokers/health)" = ok ] && ask namespaces/public | grep -q public/default; }

verb "$@"
