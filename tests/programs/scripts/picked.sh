# Programs of /usr/bin that a fixed seed picks: what they say of themselves.
names=(/usr/bin/*)
state=20
for _ in {1..40}; do
    state=$(((state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff))
    name=${names[(state >> 33) % ${#names[@]}]}
    for option in --version --help; do
        timeout 20 "$name" $option </dev/null 2>&1
        echo "$name $option: $?"
    done
done
