/** Processes that train one model: how they find each other, and how their plugins communicate. */
import { spawn } from 'node:child_process';
import { Redis } from 'iovalkey';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Group } from '../src/engine/xla/group.js';
import { buildPlugin, canBuild } from '../src/engine/xla/testing/fake-plugin.js';
import { build } from './testing/heddle.js';
import { hasRedis, startRedis } from './testing/redis.js';

describe.skipIf(!hasRedis)('processes that meet (skipped where there is no redis-server)', () => {
  let url: string;
  let stop: () => Promise<void>;
  beforeAll(async () => {
    build();
    ({ url, stop } = await startRedis());
  });
  afterAll(() => stop());

  const meet = (process: number, processes: number, name: string, patience = 60_000): Promise<Group> =>
    Group.meet({ process, processes, coordinator: `${url}#${name}`, patience });

  test('all processes of a run get the same name, in any order, and the next run gets another one', async () => {
    const names: string[] = [];
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
    ]) {
      const groups = await Promise.all(order.map((process) => meet(process, 3, 'order')));
      expect(new Set(groups.map(({ prefix }) => prefix)).size).toBe(1);
      names.push(groups[0]!.prefix);
      for (const group of groups) group.dispose();
    }
    expect(names[0]).not.toBe(names[1]);
  });

  test('two runs of different names do not mix', async () => {
    const groups = await Promise.all([0, 1].flatMap((i) => [meet(i, 2, 'left'), meet(i, 2, 'right')]));
    expect(groups[0]!.prefix).toBe(groups[2]!.prefix);
    expect(groups[1]!.prefix).toBe(groups[3]!.prefix);
    expect(groups[0]!.prefix).not.toBe(groups[1]!.prefix);
    for (const group of groups) group.dispose();
  });

  test('missing processes are named', async () => {
    await expect(meet(0, 3, 'missing', 300)).rejects.toThrow(
      /of the 3 processes of the run, 1, 2 did not come/,
    );
    await expect(meet(1, 3, 'missing', 300)).rejects.toThrow(/0 did not come within 0.3 s: start it/);
  });

  test('two processes with the same number are refused', async () => {
    // Either may be the first to come.
    const both = await Promise.allSettled([meet(1, 3, 'twice', 12_000), meet(1, 3, 'twice', 12_000)]);
    const [taken, alone] = both.map((each) => (each as PromiseRejectedResult).reason.message).sort();
    expect(taken).toMatch(/another process waits as process 1/);
    expect(alone).toMatch(/did not come/);
  });

  test('an invalid address and one without a server are reported', async () => {
    await expect(Group.meet({ process: 0, processes: 2, coordinator: 'localhost:6379' })).rejects.toThrow(
      /expected the address of a Valkey or Redis/,
    );
    await expect(
      Group.meet({ process: 0, processes: 2, coordinator: 'redis://127.0.0.1:1' }),
    ).rejects.toThrow(/cannot meet at redis:\/\/127.0.0.1:1/);
  });

  test('processes compare their inputs, and agree on the last step', async () => {
    const [one, two] = await Promise.all([meet(0, 2, 'agree'), meet(1, 2, 'agree')]);
    for (const group of [one!, two!]) group.begin();
    await Promise.all([one!.expectSame('settings', 'a'), two!.expectSame('settings', 'a')]);
    const said = await Promise.allSettled([one!.expectSame('data', 'b'), two!.expectSame('data', 'c')]);
    expect(said.map((each) => (each as PromiseRejectedResult).reason.message)).toEqual([
      'process 0 has other data than process 1: start all processes of a run with the same options and data',
      'process 1 has other data than process 0: start all processes of a run with the same options and data',
    ]);
    expect(await one!.atMost('steps')).toBe(Number.POSITIVE_INFINITY);
    expect(await two!.atMost('steps', 12)).toBe(12);
    expect(await one!.atMost('steps', 9)).toBe(12);
    expect(await one!.atMost('steps')).toBe(12);
    for (const group of [one!, two!]) group.begin();
    expect(await one!.atMost('steps')).toBe(Number.POSITIVE_INFINITY);
    for (const group of [one!, two!]) group.dispose();
  });

  test('a failure of one process reaches the others, whatever they wait for', async () => {
    const [one, two] = await Promise.all([meet(0, 2, 'failure'), meet(1, 2, 'failure')]);
    for (const group of [one!, two!]) group.begin();
    expect(await two!.together(Promise.resolve(3))).toBe(3);
    const never = two!.together(new Promise(() => {}));
    const checked = two!.expectSame('settings', 'a');
    for (const waiting of [never, checked]) waiting.catch(() => {});
    await one!.fail('the disk is full');
    const said = await Promise.allSettled([never, checked, two!.atMost('steps')]);
    for (const each of said)
      expect((each as PromiseRejectedResult).reason.message).toBe('process 0 has failed: the disk is full');
    two!.dispose();
  });

  test('a process that died while waiting does not take the place of its replacement', async () => {
    const dead = new Redis(url);
    await dead.set('heddle:run:replaced:waiting:1', 'who is gone', 'PX', 3500);
    dead.disconnect();
    const [first, second] = await Promise.all([meet(0, 2, 'replaced'), meet(1, 2, 'replaced')]);
    expect(first!.prefix).toBe(second!.prefix);
    for (const group of [first!, second!]) group.dispose();
  });

  test.skipIf(!canBuild)('the plugins of all processes exchange values', async () => {
    const plugin = buildPlugin();
    const client = (process: number, processes: number): Promise<string> => {
      const script = `
        import { openClient } from ${JSON.stringify(new URL('../dist/engine/xla/pjrt.js', import.meta.url).href)};
        const group = { process: ${process}, processes: ${processes}, place: ${JSON.stringify(url)}, prefix: 'callbacks:' };
        try {
          const client = await openClient(${JSON.stringify(plugin)}, { group });
          console.log(client.devices.length + ' devices');
          client.dispose();
        } catch (error) { console.log(error.message); }`;
      return new Promise((resolve) => {
        const child = spawn(globalThis.process.execPath, ['--input-type=module', '-e', script]);
        let said = '';
        for (const output of [child.stdout, child.stderr]) output.on('data', (text) => (said += text));
        child.on('close', (code) => resolve(`${said}exit status ${code}`));
      });
    };
    const said = await Promise.all([client(0, 3), client(1, 3), client(2, 3)]);
    expect(said).toEqual(Array(3).fill('2 devices\nexit status 0'));
  });
});
