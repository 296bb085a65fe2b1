# redis: a server with a log of its writes, background saves, scripts, subscribers, blocked clients and a replica; clients on
# loopback and on a UNIX socket.
set -e
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
# Ports that are free, of the host too.
read -r port other < <(python3 -c '
import socket
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[s.getsockname()[1] for s in free])')
on() { redis-cli -p "$@"; }
serve() {
    mkdir -p "$1"
    redis-server --bind 127.0.0.1 --port "$1" --unixsocket "$directory/$1/socket" --dir "$directory/$1" --logfile log \
        --io-threads 2 --enable-debug-command yes --repl-diskless-sync-delay 0 --save '' "${@:2}" &
    until on "$1" ping 2>/dev/null | grep -q PONG || ! kill -0 $!; do :; done
}
serve "$port" --appendonly yes
on "$port" set greeting hello
redis-cli -s "$port/socket" append greeting ' world'
seq 20000 | sed 's/.*/rpush list &/' | on "$port" --pipe | tail -n 1
on "$port" lrange list 9998 10001
on "$port" eval 'return redis.call("incrby", KEYS[1], ARGV[1]) + #redis.call("lrange", "list", 0, -1)' 1 counter 42
printf 'multi\nincr counter\nzadd scores 2 two 1 one\nzrange scores 0 -1 withscores\nexec\n' | on "$port"
# Blocked until another client gives.
on "$port" blpop queue 0 >popped &
until on "$port" client list | grep -q cmd=blpop; do :; done
on "$port" rpush queue element
wait $!
cat popped
mkfifo heard
on "$port" subscribe channel >heard &
subscriber=$!
exec 3<heard
for _ in 1 2 3; do read -r line <&3; echo "$line"; done
on "$port" publish channel message
for _ in 1 2 3; do read -r line <&3; echo "$line"; done
kill $subscriber
# Both fork.
until_done() { until on "$port" info persistence | grep -q "$1:0"; do :; done; }
on "$port" bgsave
until_done rdb_bgsave_in_progress
on "$port" info persistence | grep -a status
on "$port" bgrewriteaof
until_done aof_rewrite_in_progress
redis-benchmark -p "$port" -n 4000 -c 20 -t incr,set -q >log
on "$port" get counter:__rand_int__
serve "$other" --replicaof "127.0.0.1 $port"
until on "$other" role | grep -q connected; do :; done
printf 'set last word\nwait 1 0\n' | on "$port"
on "$other" get last
on "$other" llen list
on "$other" set last other 2>&1 || true
[ "$(on "$port" debug digest)" = "$(on "$other" debug digest)" ] || on "$port" debug digest
on "$other" shutdown >closed 2>&1 || true
on "$port" shutdown nosave >closed 2>&1 || true
wait
# From the log of writes.
serve "$port" --appendonly yes
on "$port" llen list
on "$port" get greeting
on "$port" shutdown >closed 2>&1 || true
wait
grep -c 'DB loaded from' "$port/log"
