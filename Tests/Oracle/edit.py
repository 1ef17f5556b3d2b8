# vim and somebody who types: text that is never saved before the end, moved, changed, undone.  What is compared in the end is the file, what
# all of it was before the last changes, and the screen as vim draws it anew.
import sys
from terminal import Terminal

rounds = int(sys.argv[1])
vim = Terminal(["/usr/bin/vim", "-u", "NONE", "-i", "NONE", "-N", "text.txt"], {"TERM": "vt100"})
answers = 0

def keys(text):
    """Types, and waits until vim answers what was typed after it."""
    global answers
    answers += 1
    vim.type(text + ":echo 'answer-' . (%d * 7)\r" % answers)
    return vim.until("answer-%d" % (answers * 7))

keys(":set noruler noshowcmd undolevels=10000\r")
for i in range(rounds):
    keys("Goround %d\tof\tthe text\x1b" % i)
    keys("yy3p:s/round/copy %d of round/\r" % i)
    keys("kddu\x12")                    # deleted, brought back, deleted again
    keys("ggi%d \x1b0yw`.$p:1s/\\%%>200v.*//e\r" % i)
    keys("Givanished\x08\x08\x08\x16\x08\x17word\x1b:undojoin | normal! A, joined\r")
    keys("qqq:g/copy %d /normal @q\r" % i)
    keys("Vjd\"ap:m 0\ruu\x12")
    if i % 10 == 9:
        print(i, "rounds", flush=True)

def screen():
    drawn = keys("\x0c")
    print(repr(drawn[drawn.rindex("\x1b[J"):drawn.rindex(":echo")]))

keys(":set number\r:1\rzt")
screen()
keys(":write\r:earlier 25\r:write early.txt\r:later 9\r")
screen()
vim.type(":quit!\r")
status, rest = vim.close()
print("vim ended with", status)
