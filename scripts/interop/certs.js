// Runs a batch of operations with the reference's certificates (npm package nacl-cert) and
// JavaScript's own JSON, for the tests of the Go package certs.
//
// Standard input: a JSON array of operations {"op": name, "args": [text or null, …]}, each text in
// base64. Standard output: a JSON array with, for each, {"ok": bool, "text": base64}; text is JSON
// for an operation that makes something.

'use strict';

const fs = require('fs');
const nacl = require('tweetnacl/nacl-fast.js');
const cert = require('nacl-cert');

// The package prints why it refuses; standard output is for the results.
console.log = function () {};

const parse = (text) => JSON.parse(text.toString('utf8'));
const verdict = (ok) => ({ ok: ok === true });
const made = (value) => ({ ok: Boolean(value), text: value ? JSON.stringify(value) : '' });

const operations = {
  // stringify(document)
  stringify: (doc) => ({ ok: true, text: JSON.stringify(parse(doc)) }),
  // lower(JSON string)
  lower: (s) => ({ ok: true, text: JSON.stringify(parse(s).toLowerCase()) }),
  // validate(certificate, CA's certificate or null)
  validate: (c, ca) => verdict(cert.validate(parse(c), ca === null ? undefined : parse(ca))),
  // checkDomain(certificate, host), checkIP(certificate, address)
  checkDomain: (c, host) => verdict(cert.checkDomain(parse(c), host.toString('utf8'))),
  checkIP: (c, ip) => verdict(cert.checkIP(parse(c), ip.toString('utf8'))),
  // generateCA({name, tte}) makes {cert, secretkey}
  generateCA: (info) => made(cert.generateCA(parse(info))),
  // generate(request, {cert, secretkey}) makes a certificate
  generate: (req, ca) => made(cert.generate(parse(req), parse(ca).secretkey, parse(ca).cert)),
  // keyPair() makes what the reference's command line writes to box-kp.json
  keyPair: () => {
    const kp = nacl.box.keyPair();
    return made({
      secretkey: cert.Uint8ToArray(kp.secretKey),
      publickey: cert.Uint8ToArray(kp.publicKey),
    });
  },
  // checkKeyPair(key pair's file)
  checkKeyPair: (file) => {
    const kp = parse(file);
    const derived = nacl.box.keyPair.fromSecretKey(cert.ArrayToUint8(kp.secretkey));
    return verdict(nacl.verify(derived.publicKey, cert.ArrayToUint8(kp.publickey)));
  },
};

const results = JSON.parse(fs.readFileSync(0, 'utf8')).map(({ op, args }) => {
  try {
    const decoded = args.map((a) => (a === null ? null : Buffer.from(a, 'base64')));
    const { ok, text } = operations[op](...decoded);
    return { ok, text: Buffer.from(text || '', 'utf8').toString('base64') };
  } catch (err) {
    if (!(op in operations)) {
      throw err;
    }
    return { ok: false, text: '' };
  }
});
fs.writeFileSync(1, JSON.stringify(results));
