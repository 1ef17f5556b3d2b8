#!/bin/sh
# make -j2 with gcc on a real source tree: $1 is the archive.
tar xf "$1" && mv lua-* source && cd source/src || exit 1
make -j2 CC="gcc -std=gnu99" MYCFLAGS="-DLUA_USE_POSIX -O0" all LIBS="-lm" > ../../make.log 2>&1
status=$?
cd ../..
sort make.log | grep -v '^make' > make.sorted
rm make.log
./source/src/lua -e 'print(_VERSION, 6 * 7)'
exit $status
