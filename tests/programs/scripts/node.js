// node: HTTP on loopback and on a UNIX socket, worker threads that share memory, children, files, streams, signals.
'use strict';
const assert = require('assert');
const { once } = require('events');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const { execFileSync, fork, spawn } = require('child_process');
const { createHash, pbkdf2 } = require('crypto');
const { pipeline } = require('stream/promises');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const zlib = require('zlib');

function ask(options, body) {
    return new Promise((resolve, reject) => {
        const request = http.request({ agent: false, method: body ? 'POST' : 'GET', ...options }, async (response) => {
            let text = '';
            for await (const part of response.setEncoding('utf8')) text += part;
            resolve([response.statusCode, text]);
        });
        request.on('error', reject).end(body);
    });
}

async function serve(directory) {
    const server = http.createServer(async (request, response) => {
        let length = 0;
        for await (const part of request) length += part.length;
        response.end(`${request.method} ${request.url} ${length}`);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    const agent = new http.Agent({ keepAlive: true, maxSockets: 5 });
    const host = '127.0.0.1';
    const answers = await Promise.all([...Array(50).keys()].map((n) => ask({ host, port, agent, path: `/${n}` })));
    console.log(answers.length, answers[49], await ask({ host, port, path: '/posted' }, 'x'.repeat(300000)));
    agent.destroy();
    server.close();
    await once(server, 'close');
    const refused = await ask({ host, port }).catch((error) => error.code);
    const socketPath = path.join(directory, 'socket');
    const local = http.createServer((request, response) => response.end('local')).listen(socketPath);
    await once(local, 'listening');
    console.log(refused, await ask({ socketPath }));
    local.close();
}

async function work() {
    const shared = new SharedArrayBuffer(8);
    const workers = [1, 2, 3, 4].map((by) => new Worker(__filename, { workerData: { shared, by } }));
    const results = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0]));
    await Promise.all(workers.map((worker) => worker.terminate()));
    console.log(results, Atomics.load(new Int32Array(shared), 0));
    const failing = new Worker('throw new Error("in a worker")', { eval: true });
    console.log((await once(failing, 'error'))[0].message);
}

function inWorker() {
    const { shared, by } = workerData;
    const [counter, turns] = [new Int32Array(shared, 0, 1), new Int32Array(shared, 4, 1)];
    for (let i = 0; i < 10000; i++) Atomics.add(counter, 0, by);
    Atomics.add(turns, 0, 1);
    Atomics.notify(turns, 0);
    for (let n; (n = Atomics.load(turns, 0)) < 4;) Atomics.wait(turns, 0, n);
    parentPort.postMessage(by * 100);
}

async function children() {
    console.log(execFileSync('sh', ['-c', 'cat; exit 0'], { input: 'through cat' }).toString());
    const sorted = spawn('sort', ['-n'], { stdio: ['pipe', 'pipe', 'inherit'] });
    sorted.stdin.end([...Array(5000).keys()].reverse().join('\n') + '\n');
    let text = '';
    for await (const part of sorted.stdout) text += part;
    console.log(text.split('\n').length, text.slice(0, 8).split('\n'));
    const child = fork(__filename, ['child']);
    child.send({ number: 20 });
    console.log(await once(child, 'message'), await once(child, 'exit'));
    const killed = spawn('sleep', ['1000']);
    await once(killed, 'spawn');
    killed.kill('SIGTERM');
    console.log(await once(killed, 'exit'));
    console.log(await once(spawn('/no/such/program'), 'error').then(([error]) => error.code));
    const signalled = once(process, 'SIGUSR2');
    process.kill(process.pid, 'SIGUSR2');
    console.log(await signalled);
}

async function files(directory) {
    const [plain, packed, back] = ['plain', 'packed', 'back'].map((name) => path.join(directory, name));
    await fs.promises.writeFile(plain, Array(200000).fill('line').join('\n'));
    await pipeline(fs.createReadStream(plain), zlib.createGzip(), fs.createWriteStream(packed));
    await pipeline(fs.createReadStream(packed), zlib.createGunzip(), fs.createWriteStream(back));
    assert(fs.readFileSync(plain).equals(fs.readFileSync(back)));
    console.log(createHash('sha256').update(fs.readFileSync(back)).digest('hex'), fs.statSync(back).size);
    const watched = new Promise((resolve) => {
        const watcher = fs.watch(directory, (event, name) => name === 'new' && resolve([event, name, watcher.close()]));
    });
    await fs.promises.writeFile(path.join(directory, 'new'), '');
    console.log(await watched, fs.readdirSync(directory).sort());
    await fs.promises.rename(plain, packed);
    console.log(await fs.promises.open(plain).catch((error) => error.code));
    const keys = await Promise.all([...Array(8).keys()].map((n) => new Promise((resolve, reject) => {
        pbkdf2(`word ${n}`, 'salt', 1000, 8, 'sha256', (error, key) => (error ? reject(error) : resolve(key.toString('hex'))));
    })));
    console.log(keys);
}

async function main() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'node-'));
    process.on('exit', () => fs.rmSync(directory, { recursive: true }));
    await serve(directory);
    await work();
    await children();
    await files(directory);
    setImmediate(() => console.log('immediate'));
    process.nextTick(() => console.log('tick'));
    process.exitCode = 7;
}

if (!isMainThread) inWorker();
else if (process.argv[2] === 'child') process.once('message', ({ number }) => process.send(number * 2, () => process.exit(3)));
else main();
