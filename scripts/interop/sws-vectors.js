// Makes the handshakes and records of protocol/testdata/vectors.json again, with the reference's
// own Box and SecretBox and with JSON.stringify, from only the secrets and the random values.
//
// Standard input: the file. Standard output: a JSON array with, for each vector, the messages, the
// records, and whether the certificates are valid.

'use strict';

const fs = require('fs');
const nacl = require('tweetnacl/nacl-fast.js');
const sws = require('node-sws');
const certs = require('nacl-cert');

// The packages print what they refuse; standard output is for the result.
console.log = console.error;

const unhex = (s) => new Uint8Array(Buffer.from(s, 'hex'));
const hex = (b) => Buffer.from(b).toString('hex');
const array = (b) => Array.prototype.slice.call(b);
const concat = (...parts) => new Uint8Array(Buffer.concat(parts.map((p) => Buffer.from(p))));

function remake(v) {
  const client = nacl.box.keyPair.fromSecretKey(unhex(v.clientSecret));
  const server = nacl.box.keyPair.fromSecretKey(unhex(v.serverSecret));
  const clientRandom = unhex(v.clientRandom);
  const serverRandom = unhex(v.serverRandom);
  const helloNonce = clientRandom.subarray(0, 8);
  const own = { client: clientRandom.subarray(8, 48), server: serverRandom };

  let serverTail = '';
  let clientTail = '';
  if (v.version === 2) {
    serverTail = JSON.stringify({ cert: v.serverCert, requireCert: v.requireCert });
    clientTail = JSON.stringify(v.requireCert ? v.clientCert : {});
  }
  const serverBox = new sws.Box(client.publicKey, server.secretKey, helloNonce);
  const clientBox = new sws.Box(server.publicKey, client.secretKey, serverRandom.subarray(0, 8));
  const made = {
    clientHello: JSON.stringify({
      version: v.version, opc: 0,
      client_public_key: array(client.publicKey), nonce: array(helloNonce),
    }),
    serverHello: JSON.stringify({
      version: v.version, opc: 1, server_public_key: array(server.publicKey),
      s_blackbox_a: array(serverBox.box(concat(own.server, Buffer.from(serverTail)))),
    }),
    clientReady: JSON.stringify({
      version: v.version, opc: 2,
      s_blackbox_a: array(clientBox.box(concat(own.client, Buffer.from(clientTail)))),
    }),
    certsValid: [v.serverCert, v.clientCert].filter(Boolean).map((c) => certs.validate(c, v.ca)),
    records: [],
  };
  const boxes = {};
  for (const from of ['client', 'server']) {
    boxes[from] = new sws.SecretBox(own[from].subarray(8), own[from].subarray(0, 8));
  }
  for (const r of v.records) {
    made.records.push(hex(boxes[r.from].box(unhex(r.payload))));
    boxes[r.from].incrNonce();
  }
  return made;
}

process.stdout.write(JSON.stringify(JSON.parse(fs.readFileSync(0, 'utf8')).map(remake)));
