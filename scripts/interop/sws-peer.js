// One end of a connection with the reference implementation (npm package node-sws), for the tests
// of the Go package protocol.
//
// The first line of standard input is the configuration, JSON:
//   role        "client" or "server"
//   url         where a client connects
//   version     1 or 2
//   key         {"secretkey":[…],"publickey":[…]}
//   cert, ca    certificates, or null
//   requireCert of a server
//   sizes       lengths of the messages to send, null for none; a client sends when it is
//               connected, a server when the first message has arrived
//   expect      how many messages the other end sends
//
// Standard output gets one JSON object a line, each with an "event": listening (port), open (peer:
// the gid of the peer's certificate), done (sent, received: see digest below; when everything has
// been sent and received), error (text), close (code, reason). The process ends when standard input
// does.

'use strict';

const crypto = require('crypto');
const readline = require('readline');
const sws = require('node-sws');

// The package prints what it does; standard output is for the events.
console.log = console.error;

function emit(event, fields) {
  process.stdout.write(JSON.stringify(Object.assign({ event: event }, fields)) + '\n');
}

// A digest is SHA-256 over all messages in order, each with its length before it.
function addTo(hash, message) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  hash.update(length).update(message);
}

function exchange(socket, config) {
  const sent = crypto.createHash('sha256');
  const received = crypto.createHash('sha256');
  // A client is connected even if the server is about to refuse it.
  const sizes = config.sizes || [];
  let sending = 0;
  let arrived = 0;

  function finish() {
    if (arrived === config.expect && sending === sizes.length) {
      emit('done', { sent: sent.digest('hex'), received: received.digest('hex') });
    }
  }
  function sendNext() {
    if (sending === sizes.length) {
      return;
    }
    const message = crypto.randomBytes(sizes[sending]);
    addTo(sent, message);
    socket.send(message);
    sending++;
    finish();
    setImmediate(sendNext);
  }
  socket.on('message', (message) => {
    addTo(received, message);
    arrived++;
    if (config.role === 'server' && arrived === 1) {
      sendNext();
    }
    finish();
  });
  if (config.role === 'client') {
    sendNext();
  }
}

function watch(socket) {
  socket.on('error', (err) => emit('error', { text: String(err) }));
  socket.on('warn', (text) => emit('warn', { text: String(text) }));
  socket.on('timeout', (text) => emit('timeout', { text: String(text) }));
  socket.on('close', (code, reason) => emit('close', { code: code, reason: reason }));
}

function opened(socket, config) {
  emit('open', { peer: socket.peerCert ? socket.peerCert.desc.gid : '' });
  exchange(socket, config);
}

function run(config) {
  const secinfo = {
    version: config.version,
    myPublicKey: new Uint8Array(config.key.publickey),
    mySecretKey: new Uint8Array(config.key.secretkey),
    cert: config.cert || undefined,
    ca: config.ca || undefined,
    requireCert: config.requireCert,
  };
  if (config.role === 'client') {
    const client = new sws(config.url, { naclinfo: secinfo });
    watch(client);
    client.on('open', () => opened(client, config));
    return;
  }
  const server = new sws.Server({ port: 0, host: '127.0.0.1' }, () => {
    emit('listening', { port: server.wss._server.address().port });
  }, secinfo);
  // A handshake that fails never becomes a connection; its WebSocket shows how it ended.
  server.wss.on('connection', (ws) => {
    ws.on('close', (code, reason) => emit('close', { code: code, reason: reason }));
  });
  server.on('connection', (socket) => {
    watch(socket);
    opened(socket, config);
  });
}

const lines = readline.createInterface({ input: process.stdin });
lines.once('line', (line) => run(JSON.parse(line)));
lines.on('close', () => process.exit(0));
