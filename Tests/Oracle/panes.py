# A tmux server with two panes and somebody who uses it through a terminal, leaves it and comes back.  What counts is what the panes hold in the end.
import os, subprocess, sys, time
from terminal import Terminal

rounds, tmux = int(sys.argv[1]), ["/usr/bin/tmux", "-S", ".tmux/socket", "-f", ".tmux/settings"]
os.mkdir(".tmux")
with open(".tmux/settings", "w") as f:
    f.write("set -g status off\nset -g default-command 'exec /bin/sh'\nset -g history-limit 100000\nset -g exit-empty on\nset -g escape-time 0\nset -g assume-paste-time 0\n")
settings = {"TERM": "vt100", "PS1": "$ ", "SHELL": "/bin/sh"}
client = Terminal(tmux + ["new-session"], settings, columns=161)
answers = 0

def command(line):
    """Types a command into the pane that is in use, and waits for what it answers."""
    global answers
    answers += 1
    client.type(line + "; echo answer-$((%d * 7)).\n" % answers)
    client.until("answer-%d." % (answers * 7))

def shown(pane):
    return subprocess.run(tmux + ["capture-pane", "-p", "-S", "-", "-t", ":." + pane], stdout=subprocess.PIPE, text=True).stdout

def await_prompt(pane):
    while not shown(pane).startswith("$"):
        time.sleep(0.01)

def at_prompt(pane):
    """The prompt comes a moment after the answer."""
    while not shown(pane).rstrip().endswith("\n$"):
        time.sleep(0.01)
    return shown(pane)

client.until("$ ")
command("count=0; stty -echo")
client.type("\x02%")                        # two panes, side by side
await_prompt("1")
command("count=1000; stty -echo")
for i in range(rounds):
    command("count=$((count + %d)); echo count $count" % i)
    client.type("\x02o")                    # the other pane
    command("count=$((count + 1)); seq $count $((count + 5)) | tr '\\n' ' '; echo")
    if i % 3 == 0:
        command("(read -r line; echo \"read $line\") <<END\nround %d\nEND\ntrue" % i)
    if i % 20 == 10:
        client.type("\x02d")                # leaves, and comes back
        status, last = client.close()
        print("left with", status, "[detached" in last, flush=True)
        client = Terminal(tmux + ["attach-session"], settings, columns=161)
        client.until("answer-%d." % (answers * 7))
print("pane 0", at_prompt("0"), "pane 1", at_prompt("1"), sep="\n")
print(subprocess.run(tmux + ["list-panes", "-F", "#{pane_index} #{pane_width}x#{pane_height} #{pane_active} #{history_size}"], stdout=subprocess.PIPE, text=True).stdout)
subprocess.run(tmux + ["kill-server"])
print("ended with", client.close()[0])
