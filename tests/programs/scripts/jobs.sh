# bash: here-documents, traps, process substitution, jobs, coprocesses, status.
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
cat <<A; cat <<-'B'
$((1 + 2)) $(echo sub)
A
	$no expand
	B
trap 'echo err $?' ERR
false
trap - ERR
trap 'echo usr1' USR1
kill -USR1 $$
(trap 'echo inner; exit 4' TERM; kill -TERM $BASHPID; echo not reached)
echo $?
diff <(seq 5) <(seq 6)
paste <(seq 3) <(seq 4 6)
sleep 100 & first=$!
sleep 100 & second=$!
jobs
# A signal that meets the shell's copy before it executes sleep may be lost.
for pid in $first $second; do
    until [ "$(cat /proc/$pid/comm)" = sleep ]; do :; done
done
# By pid: a job that has ended may have lost its number by then, its status stays.
kill %1
wait $first 2>/dev/null
echo $?
kill -STOP %2; kill -CONT %2; kill %2
wait $second 2>/dev/null
echo $?
set -m
(kill -STOP $BASHPID; exit 3) &
while ! jobs | grep -q Stopped; do :; done
jobs
bg > /dev/null
wait $!
echo $?
set +m
coproc C { cat; }
echo to coprocess >&"${C[1]}"
read -r x <&"${C[0]}"
echo "$x"
kill $C_PID
exec 5<>/dev/tcp/127.0.0.1/1 || echo refused
false | true | (exit 3)
echo "${PIPESTATUS[@]}"
yes | head -1
echo "${PIPESTATUS[@]}"
read -rt 0.05 x < <(sleep 1)
echo $?
ulimit -n 50
ulimit -n
(exit 7) & wait -n
echo $?
{ sh -c 'kill -SEGV $$'; } 2>/dev/null
echo $?
nosuch
echo $?
/etc
echo $?
exit 9
