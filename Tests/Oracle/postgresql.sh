#!/bin/bash
# A PostgreSQL server on a Unix socket, and pgbench's clients with $1 transactions each; at the end, whether the tables agree with each other.
# The seed makes the transactions the same every time.
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid ckptuser --regid ckptuser --init-groups /bin/bash "$0" "$@"; fi      # the server refuses to run as root
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
folder=$(mktemp -d /tmp/postgresql-XXXXXX)
cd "$folder" || exit 1
export PGHOST=$folder PGDATABASE=bench PGUSER=owner
initdb -D data -U owner -A trust --no-sync --locale=C -E UTF8 > initdb.log 2>&1 || { cat initdb.log; exit 1; }
postgres -D data -k "$folder" -c listen_addresses= -c fsync=off -c shared_buffers=16MB -c max_connections=20 -c log_line_prefix= > server.log 2>&1 &
server=$!
until pg_isready -q -d postgres; do kill -0 $server || { cat server.log; exit 1; }; sleep 0.1; done
createdb
pgbench -i -s 2 -q > init.log 2>&1 || cat init.log
for i in 1 2 3; do
    pgbench -n -c 4 -j 2 -t "$1" --random-seed=$i > bench.log 2>&1 || cat bench.log
    psql -At -F ' ' -c "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches),
                        (SELECT sum(delta) FROM pgbench_history), (SELECT count(*) FROM pgbench_history)"
    # A parallel query's workers share their memory by a file in /dev/shm.
    psql -At -q -c "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SELECT count(*), sum(aid * (abalance % 97)) FROM pgbench_accounts"
done
kill -TERM $server              # waits for the clients to leave
wait $server
echo "server: $?"
grep -E 'ERROR|FATAL|PANIC|WARNING|terminated by' server.log
rm -rf "$folder"
