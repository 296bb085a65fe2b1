# Shell work of the everyday kind, with nothing in it that knows where it runs.
set -eu
dir=$(mktemp -d)
trap 'rm -r "$dir"; echo "trap: cleaned up"' EXIT

echo "shell: $BASH_VERSION, pid $$, $(uname -sr)"

echo "- pipeline: the most frequent words of a licence"
tr -cs '[:alpha:]' '\n' </usr/share/common-licenses/GPL-3 |
    tr '[:upper:]' '[:lower:]' | sort | uniq -c | sort -rn | head -3

echo "- here-document and process substitution"
cat >"$dir/a" <<EOF
one
two
three
EOF
diff <(sort "$dir/a") <(printf '%s\n' one three two)
echo "equal"

echo "- a large pipe"
head -c 20000000 /dev/zero | tr '\0' x | wc -c

echo "- job control"
set -m
sh -c 'kill -STOP $$; echo "the job goes on"' &
wait "$!" || echo "the job stopped, status $?"
jobs -s
fg %1
sh -c 'kill -TERM $$' &
wait "$!" || echo "another was ended, status $?"
set +m

echo "- background work and wait"
for n in 1 2 3; do (exit "$n") & pids[n]=$!; done
for n in 1 2 3; do wait "${pids[n]}" || echo "child $n: $?"; done
