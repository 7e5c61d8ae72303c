// An HTTP server that answers with 20,000 bytes and the number of those that it got. With "cluster"
// it serves from two workers; SIGHUP replaces them one after the other, SIGTERM ends the server.
const cluster = require('cluster');
const http = require('http');

function serve(port) {
  const server = http.createServer((request, response) => {
    let count = 0;
    request.on('data', (data) => { count += data.length; });
    request.on('end', () => response.end('x'.repeat(20000) + `\n${count}\n`));
  });
  server.listen(port, '0.0.0.0');
  return server;
}

async function replace() {
  for (const old of Object.values(cluster.workers)) {
    const worker = cluster.fork();
    await new Promise((resolve) => worker.once('listening', resolve));
    old.disconnect();
    await new Promise((resolve) => old.once('exit', resolve));
  }
  console.log('replaced');
}

const [port, mode] = process.argv.slice(2);
if (mode === 'cluster' && cluster.isPrimary) {
  for (let n = 0; n < 2; n++) {
    cluster.fork();
  }
  process.on('SIGHUP', replace);
  process.on('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
} else {
  const server = serve(Number(port));
  if (!cluster.worker) {
    process.on('SIGTERM', () => server.close());
  } else {
    // The signals of the group are the primary's.
    process.on('SIGTERM', () => {});
    process.on('SIGHUP', () => {});
  }
}
