#!/bin/bash
# fork and exec all the time, every status checked.
for ((i = 0; i < $1; i++)); do
    /bin/true && (exit $((i % 50)))
    [ $? = $((i % 50)) ] || echo "lost a status at $i"
    x=$(/bin/echo $i)
    [ "$x" = $i ] || echo "lost an output at $i"
done
echo "$i rounds"
