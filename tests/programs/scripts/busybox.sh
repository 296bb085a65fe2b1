# Applets of one static program, its shell among them.
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
busybox sh -c '
set -e
seq 1000 > f
for sum in md5sum sha1sum sha256sum; do busybox $sum f; done
seq 5 | busybox awk "{ s += \$1 } END { print s }"
busybox gzip -c f | busybox zcat | busybox tail -n 1
busybox bzip2 -c f | busybox bunzip2 -c | busybox wc
busybox tar cf t.tar f
busybox mkdir d
busybox tar xf t.tar -C d
busybox diff f d/f
busybox cp -a d e
busybox find . | busybox sort
busybox stat -c "%s %a" f
busybox dd if=f of=g bs=100 count=3 2>/dev/null
busybox hexdump -C g | busybox head -n 2
busybox xargs -n 300 echo < f | busybox wc -l
busybox ln -s f l
busybox readlink l
busybox sort -rn f | busybox head -n 1
busybox timeout 1 busybox sleep 50 || echo $?
busybox mkfifo p
busybox cat p &
echo through > p
wait
busybox touch -d @0 q
busybox stat -c %Y q
busybox find . -type f | busybox sort | busybox cpio -o -H newc 2>/dev/null | busybox cpio -t 2>/dev/null
busybox setsid busybox echo session
busybox ip addr show lo | busybox grep -o "inet 127.0.0.1/8"
busybox rm -r d e
busybox ls
trap "echo trapped" USR1
kill -USR1 $$
(exit 3) & wait $! || echo $?
exit 9'
