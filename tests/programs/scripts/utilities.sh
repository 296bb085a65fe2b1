# coreutils, findutils, grep, sed, gawk.
set -e
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
seq 20000 > f
for sum in md5sum sha1sum sha256sum sha512sum b2sum cksum sum; do $sum f; done
sort -R f | sort -n --parallel=2 | cmp - f
split -l 5000 f part
cat part* | cmp - f
comm -12 <(sort f) <(seq 100 | sort) | wc -l
join <(sort f) <(sort f) | tail -1
paste -sd+ <(seq 10)
tac f | head -1
base64 f | base64 -d | cmp - f
csplit -s f 100 200
ls
touch -d 2020-01-01 f
cp -a f g
stat -c '%n %s %A %Y' f g
cp --sparse=always f h
ln f hard
ln -s f link
stat -c %h f
install -m 700 f installed
stat -c %a installed
mkdir -p -m 711 a/b/c
rmdir -p a/b/c
mkfifo p
stat -c %F p
truncate -s 1M t
dd if=/dev/zero of=z bs=1k count=64 status=none
dd if=z of=z bs=4k conv=notrunc oflag=append count=2 status=none
sha1sum z t
timeout 0.1 sleep 99 || echo $?
nice -n 5 nice
shred -u h
ls h 2>&1 || echo $?
yes | head -2
mkdir -p t1/{a,b,c}/{1,2}
for i in t1/*/*; do seq 100 > "$i/f"; ln -s f "$i/l"; done
find t1 | sort
find t1 -name f -exec wc -l {} + | tail -1
find t1 -mindepth 2 -maxdepth 2 -print0 | sort -z | xargs -0 -n2 -P2 echo | sort
find t1 -type l -delete
seq 10 | xargs -I{} -P4 sh -c 'exit $(({} == 7))' || echo $?
grep -rc 50 t1 | sort
grep -P '\d{3}' t1/a/1/f
grep x nosuch 2>&1 || echo $?
sed -i.bak 's/5/five/g' t1/a/1/f
sed -n '5,7p;$=' t1/a/1/f
sed 's/.*/date -u -d @& +%s/e' <<< 55
gawk 'BEGIN {
    "date -u -d @0 +%Y" | getline year; print year
    print "b\na" | "sort"; close("sort")
    while (("seq 3" | getline line) > 0) sum += line
    print "co" |& "cat"; close("cat", "to"); "cat" |& getline back
    print sum, back, system("exit 3"); exit 4
}' || echo $?
