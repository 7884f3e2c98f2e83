/**
 * Checks the relative links of the repository's pages (*.md): each must lead to an existing file and, after
 * `#`, to one of its headings. Links of a page that is in the npm package must lead to files of the package.
 *
 * Usage: node scripts/check-links.mjs [root]. Prints one line per problem; exit code 1 when there is one.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, posix, resolve, sep } from 'node:path';

const SKIPPED = ['node_modules', 'build', 'dist', '.git'];
/** Written by `npm run docs`, which checks its own links. */
const GENERATED = 'docs/api/';
const root = resolve(process.argv[2] ?? '.');
const { files = [] } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

function isPacked(path) {
  const covers = (entry) => path === entry || path.startsWith(`${entry}/`);
  if (files.some((entry) => entry.startsWith('!') && covers(entry.slice(1)))) return false;
  return ['README.md', 'LICENSE', 'package.json', ...files].some(covers);
}

/** The text of a page without its code. */
function prose(page) {
  return readFileSync(join(root, page), 'utf8')
    .replace(/^```[\s\S]*?^```[ \t]*$/gm, '')
    .replace(/`[^`\n]*`/g, (code) => (code.includes('](') ? '' : code));
}

/** The anchors that GitHub gives a page's headings. */
function anchorsOf(page) {
  return [...prose(page).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-'),
  );
}

const pages = readdirSync(root)
  .filter((name) => !SKIPPED.includes(name))
  .flatMap((name) =>
    statSync(join(root, name)).isDirectory()
      ? readdirSync(join(root, name), { recursive: true }).map((path) => join(name, path))
      : [name],
  )
  .map((path) => path.split(sep).join('/'))
  .filter((path) => path.endsWith('.md') && !path.includes('node_modules/') && !path.startsWith(GENERATED));

let links = 0;
let problems = 0;
function fail(page, link, problem) {
  problems++;
  console.error(`${page}: ${link}: ${problem}`);
}
for (const page of pages) {
  for (const [, link] of prose(page).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(link)) continue;
    links++;
    const [path, anchor] = link.split('#');
    const target = path === '' ? page : posix.join(dirname(page), path).replace(/\/$/, '');
    if (!existsSync(join(root, target))) fail(page, link, 'no such file');
    else if (anchor !== undefined && !anchorsOf(target).includes(anchor)) fail(page, link, 'no such heading');
    else if (isPacked(page) && !isPacked(target))
      fail(page, link, 'not in the npm package (files of package.json)');
  }
}
console.log(`${links} links in ${pages.length} pages, ${problems} problems`);
if (links === 0 || problems > 0) process.exitCode = 1;
