// Timers, worker threads with shared memory, a child process that answers on pipes, a local server with clients, files; what it prints depends on nothing but its argument.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { spawn } = require('child_process');
const fs = require('fs'), net = require('net'), crypto = require('crypto');

if (!isMainThread) {
    const shared = new Int32Array(workerData.shared);
    parentPort.on('message', n => {
        let hash = crypto.createHash('sha256').update('worker ' + workerData.id + ' ' + n);
        let x = n;
        for (let i = 0; i < 20000; i++) x = (x * 1103515245 + 12345) & 0x7fffffff;
        Atomics.add(shared, 0, x & 0xff);
        parentPort.postMessage([n, hash.update(String(x)).digest('hex').slice(0, 12)]);
    });
    return;
}
if (process.argv[2] === 'child') {
    let rest = '';
    process.stdin.on('data', data => {
        rest += data;
        const lines = rest.split('\n');
        rest = lines.pop();
        for (const line of lines) process.stdout.write(crypto.createHash('md5').update(line).digest('hex') + '\n');
    });
    process.stdin.on('end', () => process.exit(5));
    return;
}

const rounds = Number(process.argv[2]), shared = new SharedArrayBuffer(8), log = fs.openSync('node.log', 'w');
const sleep = ms => new Promise(done => setTimeout(done, ms));
const ask = (worker, n) => new Promise(done => { worker.once('message', done); worker.postMessage(n); });

function lines(stream) {                // one answer a line, in order
    let rest = '', waiting = [], arrived = [];
    stream.on('data', data => {
        rest += data;
        const parts = rest.split('\n');
        rest = parts.pop();
        for (const p of parts) if (waiting.length) waiting.shift()(p); else arrived.push(p);
    });
    return () => new Promise(done => { if (arrived.length) done(arrived.shift()); else waiting.push(done); });
}

async function main() {
    const workers = [0, 1].map(id => new Worker(__filename, { workerData: { id, shared } }));
    const child = spawn(process.execPath, [__filename, 'child'], { stdio: ['pipe', 'pipe', 'inherit'] }), answer = lines(child.stdout);
    const ended = new Promise(done => child.on('exit', (code, signal) => done([code, signal])));
    const server = net.createServer(socket => { const next = lines(socket); (async () => { for (;;) socket.write((await next()).toUpperCase() + '\n'); })(); });
    await new Promise(done => server.listen('node.sock', done));
    const client = net.connect('node.sock'), reply = lines(client);
    let ticks = 0;
    const interval = setInterval(() => ticks++, 5);
    for (let n = 0; n < rounds; n++) {
        const pending = [ask(workers[0], n), ask(workers[1], n)];
        child.stdin.write('line ' + n + '\n');
        client.write('client ' + n + '\n');
        const [a, b] = await Promise.all(pending), c = await answer(), d = await reply();
        await sleep(n % 3);
        fs.writeSync(log, [n, a, b, c, d].join(' ') + '\n');
        if (n % 50 === 0) console.log(n, a[1], b[1], c.slice(0, 8), d);
    }
    clearInterval(interval);
    child.stdin.end();
    console.log('child', (await ended).join(' '), 'ticked', ticks > 0);
    await Promise.all(workers.map(w => w.terminate()));
    client.destroy();
    server.close();
    console.log('shared', Atomics.load(new Int32Array(shared), 0));
}
main();
