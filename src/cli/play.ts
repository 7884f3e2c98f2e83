/**
 * `gqa play`: serves the built page (playground/) on the loopback address, with the headers that threads in
 * WebAssembly need. Only the files found at the start are served.
 */
import { spawn } from 'node:child_process';
import { createReadStream, readdirSync, statSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, extname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { UsageError } from './errors.ts';
import { untilInterrupt } from './interrupt.ts';
import * as parse from './options.ts';
import { helpEnd, writeNote, writeResult } from './output.ts';

interface PlayFlags {
  readonly port: number;
  readonly open?: true;
}

const SITE = fileURLToPath(new URL('../playground/', import.meta.url));
/** The package has the bundled model and its text here only. */
const DEMO = fileURLToPath(new URL('../../demo/', import.meta.url));
/** The package has the site's kernels here only, beside its own code. */
const KERNELS = fileURLToPath(new URL('../backend/wasm/', import.meta.url));
const HOST = '127.0.0.1';

const example = `
Examples:
  npx gqa play --open
  npx gqa play model.gguf --port 8080`;

export function playCommand(): Command {
  return new Command('play')
    .description('serve a page that converts, runs and trains a model in the browser')
    .argument('[checkpoint]', 'a .gguf file or a Hugging Face folder to load in the page', parse.path)
    .option('--port <n>', 'port on 127.0.0.1; 0 takes a free one', parse.port, 4747)
    .option('--open', 'open the page in the browser')
    .addHelpText('after', helpEnd(example))
    .action(play);
}

async function play(checkpoint: string | undefined, { port, open }: PlayFlags): Promise<void> {
  const files = siteFiles();
  if (checkpoint !== undefined) addCheckpoint(files, checkpoint);
  const server = createServer(({ url = '/', method, headers }, response) => {
    const [pathname, search = ''] = url.split('?'); // no URL object, which throws for `//`
    // A page of another name that leads to this address must not read the checkpoint.
    const isLocal = /^(127\.0\.0\.1|localhost)(:\d+)?$/.test(headers.host ?? '');
    if (!isLocal) response.writeHead(403).end();
    else if (method !== 'GET' && method !== 'HEAD') response.writeHead(405).end();
    else if (pathname === '/' && search === '' && checkpoint !== undefined)
      response.writeHead(302, { location: '/?checkpoint' }).end();
    else
      send(
        files.get(pathname === '/' ? '/index.html' : pathname) ?? kernels(pathname),
        extname(pathname),
        response,
      );
  });
  const address = await listen(server, port);
  writeResult(`${address}  (Ctrl-C ends it)`);
  if (open) openBrowser(address);
  await untilInterrupt(async (signal) => {
    await new Promise((done) => signal.addEventListener('abort', done));
    server.closeAllConnections();
    server.close();
  }, 'SIGTERM');
}

/** What is served by path: the path of a file, or its text. */
type Files = Map<string, { readonly path: string } | { readonly text: string }>;

function siteFiles(): Files {
  if (statSync(join(SITE, 'index.html'), { throwIfNoEntry: false }) === undefined) {
    throw new Error(
      'play: expected the built page, got a clone without it; npm run build:playground builds it',
    );
  }
  const files: Files = new Map();
  for (const folder of [DEMO, SITE]) {
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }))
      files.set(`/${name.split(sep).join('/')}`, { path: join(folder, name) });
  }
  return files;
}

/** The kernels by their name in the site, such as /assets/relaxed-3f9a.wasm. */
function kernels(pathname: string): { readonly path: string } | undefined {
  const [, build] = /^\/assets\/(relaxed|simd128)-[\w-]+\.wasm$/.exec(pathname) ?? [];
  return build === undefined ? undefined : { path: join(KERNELS, `${build}.wasm`) };
}

/** Adds the checkpoint's files, and a list of them that the page reads first. */
function addCheckpoint(files: Files, checkpoint: string): void {
  const place = resolve(checkpoint);
  const found = statSync(place, { throwIfNoEntry: false });
  if (found === undefined)
    throw new UsageError(`${checkpoint}: expected a .gguf file or a folder, got nothing there`);
  const names = found.isDirectory()
    ? readdirSync(place, { withFileTypes: true })
        .filter((entry) => entry.isFile() && /\.(safetensors|json|txt|model|jinja|gguf)$/i.test(entry.name))
        .map(({ name }) => name)
    : [basename(place)];
  if (!names.some((name) => /\.(safetensors|gguf)$/i.test(name))) {
    throw new UsageError(`${checkpoint}: expected a .gguf file, or a folder with .safetensors, got none`);
  }
  const folder = found.isDirectory() ? place : resolve(place, '..');
  for (const name of names)
    files.set(`/checkpoint/${encodeURIComponent(name)}`, { path: join(folder, name) });
  files.set('/checkpoint/files.json', { text: JSON.stringify({ name: basename(place), files: names }) });
}

const TYPES: Readonly<Record<string, string>> = {
  '': 'text/html; charset=utf-8', // of `/`
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
};

function send(
  file: { readonly path: string } | { readonly text: string } | undefined,
  ending: string,
  response: ServerResponse,
): void {
  const stats = file && 'path' in file ? statSync(file.path, { throwIfNoEntry: false }) : undefined;
  if (file === undefined || ('path' in file && !stats?.isFile())) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    'content-type': TYPES[ending] ?? 'application/octet-stream',
    'content-length': 'text' in file ? Buffer.byteLength(file.text) : stats?.size,
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-embedder-policy': 'require-corp',
    'content-security-policy': "frame-ancestors 'none'", // the page itself states the rest
    'x-content-type-options': 'nosniff',
    'cache-control': 'no-store',
  });
  if ('text' in file) response.end(file.text);
  else
    createReadStream(file.path)
      .on('error', () => response.destroy())
      .pipe(response);
}

/** @returns the address */
async function listen(server: Server, port: number): Promise<string> {
  await new Promise<void>((done, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isUsed = error.code === 'EADDRINUSE';
      fail(isUsed ? new Error(`play: port ${port} is in use; --port 0 takes a free one`) : error);
    });
    server.listen(port, HOST, done);
  });
  return `http://${HOST}:${(server.address() as AddressInfo).port}/`;
}

function openBrowser(address: string): void {
  const [command, ...args] =
    process.platform === 'darwin'
      ? ['open']
      : process.platform === 'win32'
        ? ['cmd', '/c', 'start', '']
        : ['xdg-open'];
  spawn(command, [...args, address], { stdio: 'ignore', detached: true })
    .on('error', () => writeNote(`gqa: found no browser to open; open ${address}`))
    .unref();
}
