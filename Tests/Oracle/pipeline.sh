#!/bin/bash
# Pipelines, command substitution, background jobs, traps, here-documents and process substitution.
rounds=$1
caught=0
trap 'caught=$((caught + 1))' USR1
trap 'echo "leaving after $caught signals"' EXIT
for ((i = 0; i < rounds; i++)); do
    a=$(seq 1 $((200 + i)) | awk '{ s += $1 * $1 } END { print s }')
    b=$(printf '%s\n' "$a" | tr 0-9 a-j | rev)
    (sleep 0.01; exit $((i % 100))) &
    job=$!
    c=$(cat <<END | sort | uniq | wc -l
$a
$b
$a
END
)
    kill -USR1 $$
    wait $job
    status=$?
    d=$(diff <(seq 1 50) <(seq 1 51) | tail -1)
    read -r first second < <(echo "$i $a")
    echo "$i $a $b $c $status $d $first $second" | tee -a log.txt
done
wait
echo "caught $caught"
exit 3
