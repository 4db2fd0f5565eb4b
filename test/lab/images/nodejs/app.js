// A page, a file written and read back, and a computation.
const { createServer } = require('http');
const { appendFile, readFile } = require('fs/promises');

createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  if (pathname === '/note') {
    await appendFile('/tmp/notes', 'a note\n');
    return response.end(await readFile('/tmp/notes'));
  }
  response.end(`hello from node ${process.version}\n`);
}).listen(3000);
