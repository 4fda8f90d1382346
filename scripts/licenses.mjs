/** The licenses of packages whose code is in a bundle, which go wherever the bundle goes. Vite writes those of the pages itself. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Writes `licenses.txt` into the folder of a bundle. Throws for a package that says nothing of its license. */
export function writeLicenses(folder, output) {
  const texts = new Map();
  for (const { moduleIds = [] } of output) {
    for (const id of moduleIds) {
      if (!/[\\/]node_modules[\\/]/.test(id) || id.startsWith('\0')) continue;
      const { name, version, license, at } = packageOf(id);
      const files = readdirSync(at).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file));
      if (license === undefined && files.length === 0) throw new Error(`${at} has no license`);
      const said = files.sort().map((file) => `\n${readFileSync(join(at, file), 'utf8').trim()}\n`);
      texts.set(`${name} ${version}`, [`${name} ${version} (${license ?? 'see below'})\n`, ...said].join(''));
    }
  }
  const sorted = [...texts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text);
  const heading =
    'Heddle is under the Apache License 2.0. These packages have code in the files beside this one:\n';
  writeFileSync(join(folder, 'licenses.txt'), [heading, ...sorted].join(`\n${'-'.repeat(80)}\n\n`));
}

/** The package that a module belongs to: package.json files without a version mark folders of one. */
function packageOf(id) {
  for (let at = dirname(id); ; at = dirname(at)) {
    const path = join(at, 'package.json');
    if (!existsSync(path)) continue;
    const told = JSON.parse(readFileSync(path, 'utf8'));
    if (told.name !== undefined && told.version !== undefined) return { ...told, at };
  }
}
