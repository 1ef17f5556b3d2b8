#!/bin/sh
# gzip, xz and sort on a large input.
awk -v n="$1" 'BEGIN { x = 42; for (i = 0; i < n; i++) { x = (x * 16807) % 2147483647; printf "%d %08x line %d of the input\n", x, x * 7 % 2147483647, i } }' > input.txt
sort -S 4M --parallel=2 -n input.txt > sorted.txt
sort -S 4M --parallel=2 -k2 input.txt | uniq -c | gzip -9 -n > sorted.gz
gzip -9 -n -c input.txt > input.gz
xz -T2 --block-size=1MiB -2 -c sorted.txt > sorted.xz
gzip -dc input.gz | cmp - input.txt && echo gzip round trip
xz -dc sorted.xz | cmp - sorted.txt && echo xz round trip
wc -l input.txt sorted.txt
