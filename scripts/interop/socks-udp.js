'use strict';

// A client of SOCKS5's UDP ASSOCIATE, the npm package socks, for the end-to-end tests. Its
// arguments are the SOCKS server, HOST:PORT, and optionally USER:PASSWORD, with which it names the
// port of its socket in its request. It prints a line of JSON once it is associated, {"event":
// "associated", "host", "port"}, then one for each datagram that comes, {"event": "datagram",
// "host", "port", "data" in base64}, and one when the server ends the association, {"event":
// "closed"}, with which it ends. For each line on its standard input, {"host", "port", "data"}, it
// sends a datagram. At the end of its standard input it ends the association.

const dgram = require('dgram');
const readline = require('readline');
const { SocksClient } = require('socks');

const [, host, port] = /^(.*):(\d+)$/.exec(process.argv[2]);
const print = (event) => console.log(JSON.stringify(event));

const login = process.argv[3]?.split(':');

const udp = dgram.createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
udp.bind(0, associate);

function associate() {
  const client = new SocksClient({
    command: 'associate',
    proxy: { host, port: Number(port), type: 5, userId: login?.[0], password: login?.[1] },
    destination: { host: '0.0.0.0', port: login ? udp.address().port : 0 },
  });
  client.on('error', (err) => {
    console.error(String(err));
    process.exitCode = 1;
    udp.close();
  });
  client.on('established', serve);
  client.connect();
}

function serve({ socket, remoteHost }) {
  udp.on('message', (message) => {
    const { remoteHost: from, data } = SocksClient.parseUDPFrame(message);
    print({ event: 'datagram', host: from.host, port: from.port, data: data.toString('base64') });
  });
  socket.on('close', () => {
    print({ event: 'closed' });
    input.close();
    process.stdin.destroy();
    udp.close();
  });
  socket.resume();
  const input = readline.createInterface({ input: process.stdin });
  input.on('line', (line) => {
    const { host: to, port: toPort, data } = JSON.parse(line);
    const frame = SocksClient.createUDPFrame({
      remoteHost: { host: to, port: toPort },
      data: Buffer.from(data, 'base64'),
    });
    udp.send(frame, remoteHost.port, remoteHost.host);
  });
  input.on('close', () => socket.end());
  print({ event: 'associated', host: remoteHost.host, port: remoteHost.port });
}
