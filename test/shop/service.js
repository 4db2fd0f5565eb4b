// One service of the shop: it answers HTTP, and for each answer asks the services that NEEDS names, each by its own
// protocol: "http://HOST:PORT/PATH redis://HOST:PORT postgresql://… mysql://…". With WORKS it asks every so many milliseconds too.
const http = require("http"), net = require("net");
const needs = (process.env.NEEDS || "").split(" ").filter(Boolean);

function talk(port, host, send, enough) {
  return new Promise((done, failed) => {
    const c = net.connect(port, host.replace(/[[\]]/g, ""), () => send && c.write(send));
    let text = Buffer.alloc(0);
    c.setTimeout(4000, () => (c.destroy(), failed(new Error(`${host}:${port} is silent`))));
    c.on("error", failed);
    c.on("data", (d) => { text = Buffer.concat([text, d]); if (enough(text)) { c.end(); done(text.toString("latin1")); } });
    c.on("end", () => failed(new Error(`${host}:${port} hung up`)));
  });
}

const ask = {
  "http:": (u) => new Promise((done, failed) => {
    const r = http.get(u, { timeout: 8000, agent: false }, (a) => { a.resume(); a.on("end", () => (a.statusCode < 500 ? done() : failed(new Error(`${u} says ${a.statusCode}`)))); });
    r.on("timeout", () => r.destroy(new Error(`${u} is silent`)));
    r.on("error", failed);
  }),
  "redis:": (u) => talk(u.port, u.hostname, "LPUSH orders 1\r\nLTRIM orders 0 9\r\n", (t) => t.includes("+OK")),
  "postgresql:": (u) => talk(u.port, u.hostname, Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]), (t) => t[0] === 83 || t[0] === 78), // "is there TLS?"
  "mysql:": (u) => talk(u.port, u.hostname, null, (t) => t.length > 8), // it greets
};

const all = () => Promise.all(needs.map((n) => { const u = new URL(n); return ask[u.protocol](u); }));

http.createServer(async (q, a) => {
  try { await all(); a.end("ok\n"); } catch (e) { a.statusCode = 503; a.end(e.message + "\n"); console.error(e.message); }
}).listen(3000, "::");
if (process.env.WORKS) setInterval(() => all().catch((e) => console.error("work:", e.message)), +process.env.WORKS);
