# The sqlite3 shell: tables and indexes, write-ahead logs with writers at once, a journal that is rolled back, files that come back whole.
set -e
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
sqlite3 db <<'SQL'
pragma journal_mode = wal;
create table numbers (n integer primary key, square integer, text text);
with recursive c(n) as (select 1 union all select n + 1 from c where n < 20000)
    insert into numbers select n, n * n, printf('%08x', n * 2654435761 % 4294967296) from c;
create index by_text on numbers (text);
create virtual table words using fts5 (word);
insert into words select text from numbers;
select count(*), sum(square), max(text) from numbers;
select count(*) from words where word match '0*';
explain query plan select n from numbers where text = 'x';
SQL
for i in 1 2 3 4; do
    for j in 1 2 3 4 5; do echo ".timeout 60000"; echo "insert into numbers (square, text) values ($i, 'writer $i $j');"; done | sqlite3 db &
done
wait
sqlite3 db "select text from numbers where text like 'writer%' order by text; delete from numbers where text like 'writer%'"
sqlite3 db 'pragma wal_checkpoint(truncate); pragma journal_mode = delete; pragma integrity_check'
# Killed in the middle of a transaction, whose journal the next one finds.
mkfifo orders
touch said
sqlite3 db <orders >said &
writer=$!
exec 3>orders
echo "pragma cache_size = 5; begin; update numbers set text = 'lost'; select 'written';" >&3
until grep -q written said; do :; done
{ kill -9 $writer; wait $writer; } 2>killed || echo $?
exec 3>&-
test -s db-journal && echo journal
sqlite3 db "select count(*) from numbers where text = 'lost'; pragma integrity_check"
sqlite3 db .dump | sort | md5sum
sqlite3 db .dump | sqlite3 copy
sqlite3 copy 'pragma mmap_size = 100000000; select sum(length(text)) from numbers; vacuum; pragma page_count'
sqlite3 db ".backup backup"
sqlite3 backup .dump | sort | md5sum
ls
