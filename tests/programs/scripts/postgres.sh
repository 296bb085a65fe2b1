# PostgreSQL as an ordinary user: a cluster is made, serves clients at once with workers of their own, is stopped, killed and recovered.
set -e
if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/ bash -c "$(cat "$0")"
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
export PGHOST=$directory PGDATA=$directory/data PGUSER=ann PGDATABASE=postgres LC_ALL=C TZ=UTC
initdb --username ann --auth trust --no-sync >log
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
cat >>data/postgresql.conf <<C
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$directory'
shared_buffers = 16MB
max_connections = 20
fsync = on
C
export PGPORT=$port
start() { pg_ctl --wait --log server start >log; }
ask() { psql --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 "$@"; }
start
ask <<'SQL'
create table numbers as select n, n * n::bigint as square, md5(n::text) as hash from generate_series(1, 50000) n;
create index on numbers (hash);
analyze numbers;
select count(*), sum(square), min(hash) from numbers;
set max_parallel_workers_per_gather = 2;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;
explain (costs off) select sum(square) from numbers where hash like '%a';
select sum(square) from numbers where hash like '%a';
begin; delete from numbers; rollback;
select count(*) from numbers;
create function fact(n numeric) returns numeric language plpgsql as
    'begin if n = 0 then return 1; end if; return n * fact(n - 1); end';
select fact(30);
SQL
# Over loopback as well, and what is wrong is told.
ask --host 127.0.0.1 --command 'select n from numbers where hash = md5(77::text)'
ask --command 'select no_such_column from numbers' 2>&1 | head -n 1
pgbench --initialize --quiet --scale 1 2>log
pgbench --client 4 --jobs 2 --transactions 50 --no-vacuum >log 2>&1
grep 'actually processed' log
ask --command 'select count(*) from pgbench_history; select (select sum(delta) from pgbench_history) = (select sum(abalance) from pgbench_accounts)'
# One waits for another's lock, and for its notice.
mkfifo orders
touch said
ask <orders >said & first=$!
exec 3>orders
echo "begin; update numbers set square = -1 where n = 1; select 'locked';" >&3
until grep -q locked said; do :; done
ask --command 'update numbers set square = square - 1 where n = 1 returning square' >second & second=$!
until [ "$(ask --command "select count(*) from pg_locks where not granted")" != 0 ]; do :; done
echo 'commit;' >&3
exec 3>&-
wait $first $second
head -n 1 second
ask --command "copy (select * from numbers order by n) to '$directory/copy'"
md5sum copy | cut -d ' ' -f 1
pg_dump --table numbers | grep -v -E '^--|^$|^SET|^SELECT|restrict' | sort | md5sum
pg_ctl --wait --mode immediate stop >log
start
grep -c 'database system was not properly shut down' server
ask --command 'select count(*), sum(square) from numbers'
pg_ctl --wait --mode fast stop >log
# The end may meet a worker that vacuums now and then.
grep -o -E '(PANIC|FATAL).*' server | grep -v 'administrator command' || echo none
ls data/postmaster.pid 2>/dev/null || echo gone
