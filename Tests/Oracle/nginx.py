# nginx with a master and two workers serves a client in its tree: small files, a large one, ranges, what is missing, kept and new connections.
# Every answer is checked; what is printed depends on nothing but the argument.
import hashlib, http.client, os, socket, subprocess, sys, threading

rounds = int(sys.argv[1])
os.makedirs('.nginx/pages')
with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
bodies = {}
for n in range(20):
    bodies[f'/{n}'] = (hashlib.sha256(str(n).encode()).hexdigest() + '\n').encode() * (n * n + 1)
bodies['/large'] = b''.join(hashlib.sha512(str(i).encode()).digest() for i in range(20000))
for name, body in bodies.items():
    with open('.nginx/pages' + name, 'wb') as f:
        f.write(body)
with open('.nginx/nginx.conf', 'w') as f:
    f.write(f'''{'user nobody nogroup;' if os.getuid() == 0 else ''}
worker_processes 2;
daemon off;
pid nginx.pid;
error_log /dev/null;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 100;
    gzip on; gzip_types *; gzip_min_length 100;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port} backlog=64; root pages; }}
}}
''')
server = subprocess.Popen(['/usr/sbin/nginx', '-e', '/dev/null', '-p', os.path.abspath('.nginx'), '-c', 'nginx.conf'])
for _ in range(1000):
    try:
        socket.create_connection(('127.0.0.1', port)).close()
        break
    except ConnectionRefusedError:
        threading.Event().wait(0.01)

digests = [hashlib.md5(), hashlib.md5()]
def client(which):
    kept = http.client.HTTPConnection('127.0.0.1', port)
    for n in range(rounds):
        connection = kept if n % 3 else http.client.HTTPConnection('127.0.0.1', port)
        path = '/large' if n % 17 == 5 else '/missing' if n % 13 == 3 else f'/{(n * 7 + which) % 20}'
        headers = {'Range': 'bytes=100-4999'} if path == '/large' and n % 2 else {}
        connection.request('GET', path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        wanted = (404, None) if path == '/missing' else (206, bodies[path][100:5000]) if headers else (200, bodies[path])
        if answer.status != wanted[0] or (wanted[1] is not None and body != wanted[1]):
            print('wrong', which, n, path, answer.status, len(body))
        digests[which].update(b'%d %d ' % (answer.status, len(body)) + body)
        if connection is not kept:
            connection.close()
threads = [threading.Thread(target=client, args=(i,)) for i in range(2)]
for t in threads: t.start()
for t in threads: t.join()
print(*[d.hexdigest() for d in digests])
server.send_signal(3)               # SIGQUIT: to its end, gracefully
print('ended', server.wait())
