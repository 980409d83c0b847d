'use strict';

// Prints what the URL in its argument holds, got with undici through the proxy of the environment.

const { EnvHttpProxyAgent, request } = require('undici');

(async () => {
  const dispatcher = new EnvHttpProxyAgent();
  const response = await request(process.argv[2], { dispatcher });
  process.stdout.write(await response.body.text());
  await dispatcher.close();
})();
