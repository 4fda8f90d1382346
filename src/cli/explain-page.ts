/**
 * The page of `heddle explain`: one self-contained file with script, styles and trace. Script and styles are the studio's
 * (studio/src/explain.tsx), which `npm run build` writes to `dist/explain`.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { ConfigError } from '../errors.js';
import type { TraceJson } from '../inspect/index.js';

const BUILT = new URL('../../dist/explain/', import.meta.url);

/** The page as HTML. Throws `ConfigError` if its script was not built. */
export async function explainPage(name: string, trace: TraceJson): Promise<string> {
  const [script, styles] = await Promise.all(['page.js', 'page.css'].map(built));
  const packed = await promisify(gzip)(JSON.stringify(trace));
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(name)}, looked into</title>
<style>${styles!.replaceAll('</style', '<\\/style')}</style>
</head>
<body>
<noscript>This page draws what it holds with its own script: allow it to run.</noscript>
<script id="trace" type="text/plain">${packed.toString('base64')}</script>
<script type="module">${script!.replaceAll('</script', '<\\/script')}</script>
</body>
</html>
`;
}

async function built(file: string): Promise<string> {
  const path = fileURLToPath(new URL(file, BUILT));
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`${path} is missing: build it with 'npm run build'`, { cause: error });
  }
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
