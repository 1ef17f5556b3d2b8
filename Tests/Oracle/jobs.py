# An interactive bash and somebody who uses it: jobs in the foreground, in the background and stopped, variables, functions, history.
# Nothing is typed before what was typed last has been answered, so what the terminal shows is the same every time, but for pids.
import os, re, sys, time
from terminal import Terminal

rounds = int(sys.argv[1])
bash = Terminal(["/bin/bash", "--norc", "--noprofile", "-i"], {"TERM": "dumb", "PS1": "<\\#> ", "PS2": "more ", "HISTFILE": ""})
commands = 1

def show(text):
    """The kernel signals first and echoes then: ^Z and ^C may show behind what the signal lets others write."""
    print(re.sub(r"(?m)^(\[\d+\]) \d+\r$", r"\1 PID", text.replace("^Z", "").replace("^C", "")).replace("\r\n", "\n"), end="", flush=True)

def prompt():
    show(bash.until("<%d> " % commands))

def run(line, *steps):
    """Types a line; then, when the terminal shows the first of each pair, types the second."""
    global commands
    bash.type(line + "\n")
    commands += 1
    for words, answer in steps:
        show(bash.until(words))
        bash.type(answer)
    prompt()

def bring_back(line, answer):
    """fg shows the job before that has the terminal; and what is unread of the output when ^Z is typed, the terminal throws away.
    The job must be running: a stop signal that comes before fg's SIGCONT is dropped by it."""
    global commands
    bash.type(line + "\n")
    commands += 1
    show(bash.until("sleep 1000'\r\n"))
    while os.tcgetpgrp(bash.master) == bash.pid:
        time.sleep(0.001)
    bash.type(answer)
    prompt()

prompt()
run("mkfifo gate; count=0; tell() { count=$((count + $1)); echo \"count $count\"; }")
run("loop() { echo up; for ((i = 0; i < $1; i++)); do read -r line || return 9; echo \"line $i: $line\"; done; }")
for i in range(rounds):
    run("tell %d" % i)
    run("sh -c 'echo up; exec sleep 1000'", ("up\r\n", "\x1a"))
    run("jobs; echo $?")
    run("(read -r answer < gate; echo \"answer $answer\"; exit %d) &" % (i % 50 + 1))
    run("jobs -r | wc -l")
    run("bg %1")
    run("echo now-%d > gate; wait %%2; echo status $?" % i)
    bring_back("fg", "\x1a")
    run("bg %1 > /dev/null; kill -TERM %1; wait %1; echo status $?")
    run("perl -e '$| = 1; $SIG{CONT} = sub { print qq(again\\n) }; print qq(up\\n); sleep 1 while 1'", ("up\r\n", "\x1a"))
    run("fg %1", ("again\r\n", "\x1a"))
    run("fg", ("again\r\n", "\x03"))
    run("sh -c 'echo up; exec cat'", ("up\r\n", "typed %dx\x7f in lines\n" % i), ("lines\r\ntyped %d in lines\r\n" % i, "\x04"))
    run("loop 3", ("up\r\n", "one\n"), ("line 0: one\r\n", "two\n"), ("line 1: two\r\n", "\x04"))
    run("echo status $?; sh -c 'trap \"echo caught; exit 7\" INT; echo up; while :; do sleep 0.01; done'", ("up\r\n", "\x03"))
    run("echo status $?; !tell; history | tail -2 | cut -c 8-")
    bash.type("echo ed")
    for shown, key in ("echo ed", "\x02"), ("\b", "\x02"), ("\b", "w"):
        show(bash.until(shown))
        bash.type(key)
    show(bash.until("\b\b"))
    run("")
bash.type("exit 5\n")
status, rest = bash.close()
show(rest)
print("bash ended with", status)
os.unlink("gate")
