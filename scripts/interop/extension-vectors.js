// Derives the keys and seals the records of protocol/testdata/extension.json again, with Node's own
// cryptography, from only the secrets and the messages. Standard input: the file.
// Standard output: the results, in the same form.

'use strict';

const crypto = require('crypto');
const fs = require('fs');

const digest = (hash, parts) => parts.reduce((h, p) => h.update(p), hash).digest();
const hmac = (key, ...parts) => digest(crypto.createHmac('sha256', key), parts);
const sha256 = (...parts) => digest(crypto.createHash('sha256'), parts);
const unhex = (s) => Buffer.from(s, 'hex');

// RFC 5869, for outputs of one hash.
const extract = (salt, secret) => hmac(salt, secret);
const expand = (key, info) => hmac(key, Buffer.from(info, 'latin1'), Buffer.from([1]));

function seal(suite, key, number, payload) {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(BigInt(number), 4);
  const name = { 'aes-256-gcm': 'aes-256-gcm', 'chacha20-poly1305': 'chacha20-poly1305' }[suite];
  const cipher = crypto.createCipheriv(name, key, nonce, { authTagLength: 16 });
  return Buffer.concat([cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
}

const v = JSON.parse(fs.readFileSync(0, 'utf8'));
const messages = [v.clientHello, v.serverHello, v.clientReady].flatMap((m) => {
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE(BigInt(Buffer.byteLength(m)));
  return [size, Buffer.from(m)];
});
const transcript = sha256(...messages);
const root = extract(transcript, Buffer.concat([v.kem, v.serverShare, v.clientShare].map(unhex)));
const exporter = expand(root, 'culvert extension 1 exporter');
const contextHash = sha256(unhex(v.exportContext)).toString('latin1');
const exportInfo = `culvert extension 1 export\0${v.exportLabel}\0${contextHash}`;
const made = {
  ...v,
  transcript: transcript.toString('hex'),
  exporter: exporter.toString('hex'),
  exported: expand(exporter, exportInfo).toString('hex'),
  suites: v.suites.map((s) => {
    const keys = {
      client: expand(root, 'culvert extension 1 client to server ' + s.suite),
      server: expand(root, 'culvert extension 1 server to client ' + s.suite),
    };
    const sent = { client: 0, server: 0 };
    const current = { ...keys };
    return {
      ...s,
      clientKey: keys.client.toString('hex'),
      serverKey: keys.server.toString('hex'),
      records: s.records.map((r) => {
        const number = sent[r.from]++;
        if (number > 0 && number % v.ratchetEvery === 0) {
          current[r.from] = expand(current[r.from], 'culvert extension 1 ratchet');
        }
        const record = seal(s.suite, current[r.from], number, unhex(r.payload));
        return { ...r, record: record.toString('hex') };
      }),
    };
  }),
};
process.stdout.write(JSON.stringify(made));
