// What small Node applications do: pages, files written, read, renamed and removed, computing in threads, packing.
const { createServer } = require('http');
const { appendFile, readFile, writeFile, rename, unlink, mkdir, readdir } = require('fs/promises');
const { createReadStream, createWriteStream } = require('fs');
const { pipeline } = require('stream/promises');
const { pbkdf2 } = require('crypto');
const { gzipSync, gunzipSync } = require('zlib');
const { Worker } = require('worker_threads');
const { promisify } = require('util');
const { basename } = require('path');

const folder = '/tmp/files';
const actions = {
  '/note': async () => {
    await appendFile('/tmp/notes', 'a note\n');
    return readFile('/tmp/notes');
  },
  '/file': async (query, request) => {
    const file = `${folder}/${basename(query.get('name'))}.txt`;
    await pipeline(request, createWriteStream(file + '.part'));
    await rename(file + '.part', file);
    let size = 0;
    for await (const piece of createReadStream(file)) size += piece.length;
    if (query.get('keep') === null) await unlink(file);
    return `${size} bytes`;
  },
  '/list': async () => (await readdir(folder)).join('\n'),
  '/hash': async (query) => (await promisify(pbkdf2)(query.get('text'), 'salt', 1000, 32, 'sha256')).toString('hex'),
  '/pack': async (query) => `${gunzipSync(gzipSync(Buffer.alloc(Number(query.get('size')), 'x'))).length} bytes`,
  '/worker': async (query) => new Promise((resolve, reject) => {
    const code = "require('worker_threads').parentPort.postMessage([...Array(1000).keys()].reduce((a, b) => a + b))";
    new Worker(code, { eval: true }).once('message', (sum) => resolve(`sum ${sum}`)).once('error', reject);
  }),
};

createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  if (!actions[pathname]) return response.end(`hello from node ${process.version}\n`);
  try {
    response.end(await actions[pathname](searchParams, request));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}).listen(3000);

mkdir(folder, { recursive: true });
process.on('SIGTERM', () => process.exit(0));
