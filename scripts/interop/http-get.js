'use strict';

// Prints the resource at the URL in its argument, fetched with undici through the environment's
// proxy.

const { EnvHttpProxyAgent, request } = require('undici');

(async () => {
  const dispatcher = new EnvHttpProxyAgent();
  const response = await request(process.argv[2], { dispatcher });
  process.stdout.write(await response.body.text());
  await dispatcher.close();
})();
