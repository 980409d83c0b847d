'use strict';

// A client of the reference implementation, for the end-to-end tests. Its argument is JSON:
//
//   {"url": ..., "version": 1 or 2, "key": file, "cert": file, "ca": file}
//
// It prints a line of JSON for each event: {"event": "open"}, {"event": "message", "bytes"},
// {"event": "error", "text"}, and finally {"event": "close", "code"}. For each line on its
// standard input it sends that line's text as one message.

const say = console.log;
console.log = console.error; // the reference prints its warnings; standard output is for the events

const fs = require('fs');
const readline = require('readline');
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
  Object.assign(secinfo, { cert: read(options.cert), ca: read(options.ca) });
}

const ws = new SecureWebSocket(options.url, secinfo);
ws.on('open', () => print({ event: 'open' }));
ws.on('message', (message) => print({ event: 'message', bytes: message.length }));
ws.on('error', (err) => print({ event: 'error', text: String(err) }));
ws.on('warn', (warning) => print({ event: 'error', text: String(warning) }));
ws.on('timeout', (text) => print({ event: 'error', text: String(text) }));
ws.on('close', (code) => {
  print({ event: 'close', code });
  process.exitCode = 0;
  input.close();
  process.stdin.destroy();
});

const input = readline.createInterface({ input: process.stdin });
input.on('line', (line) => ws.send(new Uint8Array(Buffer.from(line, 'utf8'))));
