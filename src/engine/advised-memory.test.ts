import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { askForHugePages } from './advised-memory.js';

const PAGE = 65536;
const setting = '/sys/kernel/mm/transparent_hugepage/enabled';

function hasHugePages(): boolean {
  try {
    return !readFileSync(setting, 'utf8').includes('[never]');
  } catch {
    return false;
  }
}

test.runIf(process.platform === 'linux')(
  'memory that grows later is in huge pages too, where Linux has them',
  () => {
    const memory = new WebAssembly.Memory({ initial: 16, maximum: 4096, shared: true });
    const agreed = askForHugePages(memory, 4096 * PAGE);
    expect(agreed).toBe(hasHugePages());
    memory.grow(1024);
    new Uint8Array(memory.buffer).fill(1);
    if (!agreed) return;
    const regions = readFileSync('/proc/self/smaps', 'utf8').split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
    const advised = regions.filter((region) => /VmFlags:.* hg/.test(region));
    const kilobytes = advised.reduce(
      (sum, region) => sum + Number(/\nRss: +(\d+)/.exec(region)?.[1] ?? 0),
      0,
    );
    expect(kilobytes * 1024).toBeGreaterThanOrEqual(memory.buffer.byteLength);
  },
);
