# nginx: a master with two workers that serves files, compressed and in parts, and passes requests on; curl asks; reload and quit.
set -e
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
chmod 755 "$directory"
cd "$directory"
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
mkdir files
seq 200000 >files/numbers
echo '<p>first</p>' >files/index.html
cat >conf <<C
worker_processes 2;
error_log $directory/errors notice;
pid $directory/pid;
events { worker_connections 200; }
http {
    access_log $directory/access;
    client_body_temp_path body;
    proxy_temp_path proxied;
    fastcgi_temp_path a;
    uwsgi_temp_path b;
    scgi_temp_path c;
    client_max_body_size 10m;
    sendfile on;
    tcp_nopush on;
    gzip on;
    gzip_types *;
    server {
        listen 127.0.0.1:$port;
        root $directory/files;
        location /passed/ { proxy_pass http://unix:$directory/behind:/; }
        location /said { return 200 "before\n"; }
    }
    server {
        listen unix:$directory/behind;
        root $directory/files;
    }
}
C
run() { nginx -p "$directory" -c conf -e errors "$@"; }
ask() { curl --silent --show-error --fail-with-body --noproxy '*' "$@"; }
here=http://127.0.0.1:$port
run -t 2>tested || cat tested
run
ask "$here/"
ask "$here/numbers" | cmp - files/numbers
ask --compressed "$here/numbers" | md5sum
ask --range 1000-1019 "$here/numbers"
ask --head "$here/numbers" | grep -i -E '^HTTP|length|ranges'
ask "$here/passed/numbers" | cmp - files/numbers
ask --output /dev/null --write-out '%{http_code}\n' "$here/nothing" || echo $?
ask --data-binary @files/numbers --output /dev/null --write-out '%{http_code}\n' "$here/said"
# Many at once, some over one connection.
ask --parallel --parallel-max 20 "$here/numbers?[1-40]" --output 'got_#1' 2>progress
cat got_* | md5sum
ask "$here/said?[1-30]" | sort | uniq -c
sed -i 's/before/after/' conf
run -s reload
# Old workers answer too until they have ended.
until ask "$here/said" | grep after; do :; done
pid=$(cat pid)
run -s quit
while kill -0 "$pid" 2>/dev/null; do :; done
grep -c 'GET /numbers?' access
grep -c -E 'alert|emerg|crit' errors || true
ls pid behind 2>/dev/null || echo gone
