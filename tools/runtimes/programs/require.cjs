// Requires every entry point.
const manifest = require('gqa/package.json');
for (const entry of Object.keys(manifest.exports)) require(entry.replace('.', 'gqa'));
const { getBackend, ones } = require('gqa');
ones([3])
  .data()
  .then((data) => console.log(JSON.stringify({ backend: getBackend().name, length: data.length })));
