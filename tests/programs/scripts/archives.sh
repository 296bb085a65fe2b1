# tar, gzip, xz.
set -e
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
mkdir -p t/{a,b,c}/{1,2} o
for i in t/*/*; do seq 100 > "$i/f"; ln -s f "$i/l"; done
chmod 4755 t/a/1/f
mkfifo t/p
seq 30000 > big
tar cf x.tar t big
tar cJf x.txz t big
tar xpf x.txz -C o
diff -r --exclude=p t o/t
tar df x.tar
tar tvf x.tar t/p t/a/1/f | cut -c1-10 | sort
tar --sort=name --owner=0 --group=0 --mtime=@0 -cf - t | md5sum
tar cf - t | (cd o; tar xf -)
tar xOf x.tar big | cmp - big
tar cf first.tar -g seen t
touch t/new
tar cvf second.tar -g seen t | sort
tar xf nosuch 2>&1 || echo $?
gzip -k big
gzip -l big.gz
zcat big.gz | md5sum
gzip -9 < big | gunzip | cmp - big
zgrep -c 77 big.gz
xz -k -T2 big
xz -t big.xz
xzcat big.xz | md5sum
xz -9e < big | xz -d | cmp - big
echo bad > bad.gz
gzip -t bad.gz 2>&1 || echo $?
