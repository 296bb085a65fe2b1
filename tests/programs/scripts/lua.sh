# lua5.4 from its Debian source package, whose directory is $1, unpacked and built by make -j2 and gcc: same program on both sides,
# byte for byte, and it runs. Debian's patches build a second time for C++, by rules that make does not run in parallel.
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
dpkg-source --no-check --skip-patches --extract "$1"/lua5.4_*.dsc source >log
cd source
make -j2 linux >../log 2>&1 || cat ../log
grep -c '^gcc.* -c ' ../log
cd src
sha256sum lua luac liblua.a
./lua - <<'LUA'
local lines = {}
for line in io.popen("seq 5 | tac"):lines() do lines[#lines + 1] = line end
print(_VERSION, table.concat(lines, " "), ("%.3f"):format(math.sin(1)), pcall(error, "caught"))
local squares = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i * i) end end)
print(squares(), squares(), squares(), os.execute("exit 3"))
local name = os.tmpname()
local file = assert(io.open(name, "w+"))
file:write(("0123456789"):rep(100000)):seek("set", 123456)
print(file:read(7), file:seek("end"), file:close(), os.remove(name), (io.open(name)))
LUA
echo 'print(#arg, arg[1])' | ./luac -o compiled -
./lua compiled argument
make -C .. clean >../log
ls
