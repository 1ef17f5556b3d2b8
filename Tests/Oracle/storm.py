# subprocess all the time, every status and output checked.
import subprocess, sys
for i in range(int(sys.argv[1])):
    result = subprocess.run(["/bin/sh", "-c", "echo %d; exit %d" % (i, i % 60)], stdout=subprocess.PIPE)
    if result.returncode != i % 60 or int(result.stdout) != i:
        print("round", i, result)
    if i % 50 == 0:
        print(i, flush=True)
print("end", i + 1)
