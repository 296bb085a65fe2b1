# A project of 40 C files, generated here, built with make -j2; archives, shared and C++ objects.
set -e
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
echo 'static inline int g(int x) { return x ^ 1; }' > all.h
for i in $(seq 40); do
    printf '#include "all.h"\nint f%s(int x) { return x * %s + g(x); }\n' "$i" "$i" > "f$i.c"
    echo "int f$i(int);" >> all.h
done
{
    printf '#include <stdio.h>\n#include "all.h"\nint main(void) {\n    long sum = 0;\n'
    for i in $(seq 40); do echo "    sum += f$i($i);"; done
    printf '    printf("%%ld\\n", sum);\n    return 4;\n}\n'
} > main.c
cat > Makefile <<'M'
prog: $(patsubst %.c,%.o,$(wildcard *.c))
	$(CC) -o $@ $^
%.o: %.c all.h
	$(CC) -O2 -g -c -o $@ $<
M
make -j2 | sort
./prog || echo $?
touch f3.c
make -j2
make
strip prog
./prog || echo $?
ar rc lib.a f*.o
nm lib.a | grep -c ' T '
gcc -shared -fPIC -o lib.so f1.c f2.c
nm -D lib.so | grep -c ' T '
gcc -flto -O2 ./*.c -o lto
./lto || echo $?
