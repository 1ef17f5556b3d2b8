#!/bin/bash
# sqlite3 in the midst of transactions, with a rollback journal and with a write-ahead log.
for mode in delete wal; do
    awk -v n="$1" -v mode=$mode 'BEGIN {
        print "PRAGMA journal_mode=" mode "; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, value INTEGER); CREATE INDEX i ON t (value);"
        for (k = 0; k < n; k++) {
            print "BEGIN IMMEDIATE;"
            for (j = 0; j < 20; j++) printf "INSERT INTO t (name, value) VALUES (\x27name %d %d\x27, %d);\n", k, j, (k * 7919 + j * 104729) % 10007
            printf "UPDATE t SET value = value + 1 WHERE id %% 17 = %d;\n", k % 17
            print (k % 5 == 4) ? "ROLLBACK;" : "COMMIT;"
            if (k % 25 == 0) print "SELECT count(*), sum(value) FROM t;"
        }
        print "SELECT count(*), sum(value), max(name) FROM t; PRAGMA integrity_check;"
    }' > $mode.sql
    sqlite3 $mode.db < $mode.sql
    sqlite3 $mode.db .dump > $mode.dump
done
