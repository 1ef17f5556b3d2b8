# nginx with two workers that proxies to itself over a Unix socket and is reloaded, and a client that checks every answer: kept connections and new
# ones, large files, ranges, gzip, errors.
import collections, gzip, hashlib, http.client, os, signal, socket, subprocess, sys, time

rounds, folder = int(sys.argv[1]), os.path.abspath(".nginx")
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
os.mkdir(folder)
os.mkdir(folder + "/www")
files = {"small": b"a few words\n", "text": b"".join(b"line %d of the text\n" % i for i in range(3000)), "large": hashlib.shake_256(b"seed").digest(700000)}
for name, contents in files.items():
    with open(folder + "/www/" + name, "wb") as f:
        f.write(contents)
with open(folder + "/conf", "w") as f:
    f.write("""daemon off; worker_processes 2; pid %(folder)s/pid; error_log %(folder)s/errors crit; %(user)s
    events { worker_connections 64; }
    http {
        log_format words '$request_method $uri $status'; access_log %(folder)s/log words;
        client_body_temp_path %(folder)s/body; proxy_temp_path %(folder)s/proxy; fastcgi_temp_path %(folder)s/fastcgi;
        uwsgi_temp_path %(folder)s/uwsgi; scgi_temp_path %(folder)s/scgi;
        sendfile on; keepalive_requests 1000; gzip on; gzip_types *; gzip_min_length 1000;
        server { listen 127.0.0.1:%(port)d; listen unix:%(folder)s/socket; root %(folder)s/www;
                 location /again/ { proxy_pass http://unix:%(folder)s/socket:/; } }
    }""" % {"folder": folder, "port": port, "user": "user root root;" if os.geteuid() == 0 else ""})
server = subprocess.Popen(["/usr/sbin/nginx", "-p", folder, "-c", folder + "/conf", "-e", folder + "/errors"], stdin=subprocess.DEVNULL)

def connect():
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.connect()
            return connection
        except ConnectionRefusedError:
            time.sleep(0.01)

def fetch(connection, path, status, contents, method="GET", **headers):
    while True:
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            break
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            # Closed by a worker that leaves after a reload, and by nothing else; the next request connects anew.
            leaving.pop() if leaving else sys.exit("%s: %r" % (path, error))
            connection.close()
    body = answer.read()
    if answer.getheader("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    if answer.status != status or (contents is not None and body != contents):
        sys.exit("%s: status %d, %d bytes" % (path, answer.status, len(body)))

done, leaving = 0, []
kept = connect()
for i in range(rounds):
    for name, contents in files.items():
        fetch(kept, "/" + name, 200, contents)
        done += 1
    fetch(kept, "/again/text", 200, files["text"], Accept_Encoding="gzip")
    fetch(kept, "/text", 200, files["text"], **{"Accept-Encoding": "gzip"})
    fetch(kept, "/large", 206, files["large"][i:i + 70000], Range="bytes=%d-%d" % (i, i + 69999))
    fetch(kept, "/none", 404, None)
    fetch(kept, "/small", 405, None, method="POST")
    other = connect()
    fetch(other, "/small", 200, files["small"])
    other.close()
    done += 6
    if i % 100 == 50:
        kept.close()
        server.send_signal(signal.SIGHUP)
        leaving = ["one worker", "the other"]
        kept = connect()
    if i % 50 == 49:
        print(done, flush=True)
kept.close()
server.send_signal(signal.SIGQUIT)
print("nginx ended with", server.wait())
with open(folder + "/log") as f:
    for line, count in sorted(collections.Counter(f).items()):
        print(count, line, end="")
print(open(folder + "/errors").read(), end="")
