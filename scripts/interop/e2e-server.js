'use strict';

// A server of the reference implementation, for the end-to-end tests. Its argument is JSON:
//
//   {"version": 1 or 2, "key": file, "cert": file, "ca": file, "requireCert": bool, "echo": bool}
//
// It prints a line of JSON for each event: {"event": "listening", "port"}, {"event": "open"} for
// each client that has completed the handshake, and {"event": "message", "bytes"}. With echo it
// answers each message with the same one.

const say = console.log;
console.log = console.error; // the reference prints its warnings; standard output is for the events

const fs = require('fs');
const SecureWebSocket = require('node-sws');

const options = JSON.parse(process.argv[2]);
const read = (file) => (file ? JSON.parse(fs.readFileSync(file, 'utf8')) : undefined);
const print = (event) => say(JSON.stringify(event));

const key = read(options.key);
const secinfo = {
  version: options.version,
  myPublicKey: new Uint8Array(key.publickey),
  mySecretKey: new Uint8Array(key.secretkey),
};
if (options.version === 2) {
  const { requireCert } = options;
  Object.assign(secinfo, { cert: read(options.cert), ca: read(options.ca), requireCert });
}

const server = new SecureWebSocket.Server({ host: '127.0.0.1', port: 0 }, secinfo);
server.on('listening', () => {
  print({ event: 'listening', port: server.wss._server.address().port });
});
server.on('connection', (ws) => {
  print({ event: 'open' });
  ws.on('message', (message) => {
    print({ event: 'message', bytes: message.length });
    if (options.echo) {
      ws.send(message);
    }
  });
});
