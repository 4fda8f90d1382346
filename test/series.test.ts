/** Series on the command line: a table becomes a forecaster; unreadable tables are refused. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { build, heddle } from './testing/heddle.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-series-command-'));
beforeAll(build);
afterAll(() => rmSync(here, { recursive: true, force: true }));

const at = (name: string): string => join(here, name);
const row = (i: number): string =>
  `day ${i},${i % 19 === 4 ? '' : (10 + 3 * Math.sin(i / 3)).toFixed(3)},${i % 5}`;
const table = (name: string, from: number, to: number): string => {
  const rows = Array.from({ length: to - from }, (_, i) => row(from + i));
  writeFileSync(at(name), `when,load,weekday\n${rows.join('\n')}\n`);
  return at(name);
};
const train = (...args: string[]) =>
  heddle([
    'train',
    ...args,
    '--steps',
    '120',
    '--warmup',
    '5',
    '--batch',
    '2',
    '--patch',
    '2',
    '--sequence',
    '12',
    '--threads',
    '1',
    '--horizon',
    '6',
  ]);

test('a table is learned, forecast, and continued from a state', async () => {
  const whole = table('all.csv', 0, 300);
  const { code, stderr } = await train(whole, '--target', 'load', '--out', at('run'), '--validation', '0.2');
  expect(stderr).toMatch(
    /all\.csv: 300 rows of load, weekday, 16 values missing; the last 60 rows are held out/,
  );
  expect(stderr).toMatch(/left out +when/);
  const losses = [...stderr.matchAll(/validation quantile loss ([\d.]+) \(/g)].map(([, loss]) =>
    Number(loss),
  );
  expect(losses.at(-1)!).toBeLessThan(losses[0]! / 2);
  expect(code).toBe(0);

  // A perplexity is one of tokens.
  expect(readFileSync(join(at('run'), 'metrics.jsonl'), 'utf8')).not.toContain('perplexity');
  const compared = await heddle(['compare', at('run')]);
  expect([compared.code, compared.stdout]).toEqual([0, expect.stringMatching(/validation loss .*positions/)]);
  const mixed = await heddle(['compare', at('run'), 'assets/sotu-runs/hybrid']);
  expect(mixed.stderr).toMatch(/^heddle: these are runs of series and text, .*compare those of one kind\n$/);
  const evaluated = await heddle(['evaluate', at('run'), whole]);
  expect(evaluated.stderr).toMatch(/^heddle: this is a model of series, not of text: run it with .*forecast/);

  const once = await heddle(['forecast', at('run'), whole, '--steps', '4']);
  const lines = once.stdout.trim().split('\n');
  expect(lines[0]).toBe('step,target,q10,q20,q30,q40,q50,q60,q70,q80,q90');
  expect(lines.length).toBe(5);
  for (const [i, line] of lines.slice(1).entries()) {
    const [step, target, ...said] = line.split(',');
    expect([step, target]).toEqual([String(i + 1), 'load']);
    expect(Math.abs(Number(said[4]) - (10 + 3 * Math.sin((300 + i) / 3)))).toBeLessThan(2);
  }
  const state = at('state');
  await heddle(['forecast', at('run'), table('early.csv', 0, 200), '--save-state', state]);
  const later = await heddle([
    'forecast',
    at('run'),
    table('late.csv', 200, 300),
    '--state',
    state,
    '--steps',
    '4',
  ]);
  expect(later.stderr).toMatch(/read 300 rows/);
  const numbers = (text: string): number[] => text.match(/\d+\.\d+/g)!.map(Number);
  for (const [i, value] of numbers(later.stdout).entries())
    expect(value).toBeCloseTo(numbers(once.stdout)[i]!, 2);

  // The command that training tells at its end, of rows that do not fill a patch, beside a column that is not forecast.
  const odd = table('odd.csv', 0, 299);
  expect(stderr).toMatch(/^next: .* forecast \S+run \S+all\.csv$/m);
  expect((await heddle(['forecast', at('run'), odd])).stdout.trim().split('\n').length).toBe(6);
  const far = await heddle(['forecast', at('run'), odd, '--steps', '6', '--save-state', at('odd')]);
  expect(far.stderr).toMatch(/6 steps are beyond the model's horizon of 6, .* ask for 5 at most/);
  expect(far.code).toBe(1);
  const kept = await heddle(['forecast', at('run'), '--state', at('odd')]);
  expect(kept.stderr).toMatch(/read 299 rows/);
  const below = await heddle(['forecast', at('run'), odd, '--save-state', join(odd, 'state')]);
  expect(below).toMatchObject({ code: 1, stdout: '' });
  expect(below.stderr).toMatch(/^heddle: Could not write .*: a file stands where a folder is needed/);

  const info = await heddle(['info', at('run')]);
  expect(info.stdout).toMatch(/after +1,000 rows +32,000 rows +128,000 rows/);
  expect(info.stdout).not.toMatch(/token/);
  expect(info.stdout).toMatch(
    /reads series of load, weekday in patches of 2 and forecasts load, 6 rows at once/,
  );
  const text = await heddle(['generate', at('run'), '-p', 'x']);
  expect(text.stderr).toMatch(/^heddle: this is a model of series, not of text: run it with '.*forecast'/);
  const resumed = await train(
    whole,
    '--target',
    'load',
    '--out',
    at('run'),
    '--validation',
    '0.2',
    '--resume',
  );
  expect(resumed.stderr).toMatch(/done: validation quantile loss/);
});

test('a run that worsens the forecasts of held-out rows keeps the initial model, and reports it', async () => {
  // The rows to learn from rise, and those that are held out fall.
  const rows = Array.from({ length: 200 }, (_, i) => Math.min(i, 319 - i) + Math.sin(i));
  writeFileSync(at('turn.csv'), `load\n${rows.join('\n')}\n`);
  const told = (of: string, ...flags: string[]) =>
    train(
      at('turn.csv'),
      '--target',
      'load',
      '--out',
      at(of),
      '--validation',
      '0.2',
      '--evaluate-every',
      '8',
      ...flags,
    );
  const { stderr } = await told('begun');
  const losses = [...stderr.matchAll(/validation quantile loss ([\d.]+) \(/g)].map(([, loss]) => loss);
  expect(stderr).toMatch(/note +no step made the validation loss smaller: the model is left as it began\n/);
  expect(stderr).toContain(
    `done: validation quantile loss ${losses[0]} after step 0, the best of the run, model in`,
  );
  const { stderr: other } = await told('last', '--keep', 'last');
  expect(other).toContain(`done: validation quantile loss ${losses.at(-1)}, model in`);
  const { stdout } = await heddle(['compare', at('begun'), at('last')]);
  const [begun, last] = stdout.trim().split('\n').slice(1);
  expect(begun).toMatch(new RegExp(`begun .* 0 +${losses[0]} `));
  expect(last).toMatch(new RegExp(`last .* 120 +${losses.at(-1)} `));
});

test('a constant column is reported, and refused as a target', async () => {
  const rows = Array.from({ length: 80 }, (_, i) => `${Math.sin(i)},7`);
  writeFileSync(at('constant.csv'), `load,volts\n${rows.join('\n')}\n`);
  const run = (target: string, steps: string) =>
    heddle(['train', at('constant.csv'), '--target', target, '--steps', steps, '--out', at(target)]);
  const told = await run('load', '0');
  expect(told.stderr).not.toContain('horizon');
  expect(told.stderr).toMatch(/constant +volts: always the same in the rows to learn from/);
  const refused = await run('volts', '1');
  expect(refused.stderr).toMatch(/the target 'volts' is always 7 in the rows to learn from/);
  expect(existsSync(at('volts'))).toBe(false);
});

test('a short table has enough held-out rows for windows longer than the horizon', async () => {
  const path = table('short-by-default.csv', 0, 376);
  const args = ['--target', 'load', '--channel', 'load', '--steps', '0', '--out', at('by-default')];
  const { code, stderr } = await heddle(['train', path, ...args]);
  expect([code, stderr]).toEqual([0, expect.stringMatching(/the last 75 rows are held out/)]);
  expect(stderr).toMatch(/windows of 74 rows/);
});

test('a horizon beyond the table is reported, and refused without a model that has it', async () => {
  writeFileSync(at('short.csv'), `load\n${Array.from({ length: 30 }, (_, i) => i % 7).join('\n')}\n`);
  const run = (horizon: string) => {
    const args = ['--target', 'load', '--horizon', horizon, '--sequence', '4', '--steps', '0'];
    return heddle(['train', at('short.csv'), ...args, '--out', at(`horizon-${horizon}`)]);
  };
  const told = await run('40');
  expect(told.stderr).toMatch(/horizon +40 rows, and there are \d+ to learn from: what lies further ahead/);
  expect(told.stderr).toMatch(
    /validation +6 rows are held out, and a forecast has 40: the validation loss tells/,
  );
  const refused = await run('5000');
  expect(refused.stderr).toMatch(/--horizon is 5000: a model forecasts 4096 rows at once at most/);
  expect(existsSync(at('horizon-5000'))).toBe(false);
});

test.each([
  [['--target', 'wind'], /no column 'wind'; there are when, load, weekday/],
  [['--target', 'when'], /line 2: the column 'when' has 'day 0', which is no number/],
  [['--target', 'load', '--lora', '4'], /--lora is for models of text/],
  [
    ['--target', 'load', '--validation', '0'],
    /'--validation <fraction>' argument '0' is invalid\. expected a share between 0 and 1/,
  ],
  [
    ['--target', 'load', '--validation', '0.05'],
    /there are 15 held-out rows, and .* needs 25 at least: use more rows, a larger --validation or a shorter --sequence/,
  ],
  [
    ['--target', 'load', '--validation', '0.95'],
    /there are 15 rows to learn from, and .* needs \d+ at least: use more rows or a shorter --sequence/,
  ],
  [[], /is a table: name the columns to forecast with --target/],
])('train %j is refused, and writes nothing', async (args, message) => {
  const { code, stderr } = await train(table('small.csv', 0, 300), ...args, '--out', at('none'));
  expect(
    stderr
      .replace(/\nnext:.*\n$/, '')
      .trim()
      .split('\n')
      .at(-1),
  ).toMatch(message);
  expect(code).toBe(1);
  expect(existsSync(at('none'))).toBe(false);
});

test('the times of a table give calendar fields: weekdays are forecast, and rows at other times are refused', async () => {
  const day = (i: number): string => new Date(Date.UTC(2024, 0, 1 + i)).toISOString().slice(0, 10);
  /** What a day is on the mean, which its weekday alone says: six of seven are alike. */
  const load = (i: number): number => (i % 7 === 5 ? 30 : 10) + ((i * 7919) % 13) / 13;
  const dated = (name: string, from: number, to: number, skipped?: number): string => {
    const days = Array.from({ length: to - from }, (_, i) => from + i).filter((i) => i !== skipped);
    const lines = days.map((i) => `${day(i)},${load(i).toFixed(3)}`);
    writeFileSync(at(name), `when,load\n${lines.join('\n')}\n`);
    return at(name);
  };
  const whole = dated('dated.csv', 0, 200);
  const options = ['--target', 'load', '--time', 'when', '--steps', '20', '--warmup', '2', '--batch', '2'];
  const few = [...options, '--sequence', '8', '--horizon', '9', '--threads', '1', '--validation', '0.2'];
  const run = at('dated run');
  const trained = await heddle(['train', whole, ...few, '--out', run]);
  expect(trained.stderr).toMatch(
    /calendar +when: rows are 1 day apart; effects of day-of-week are fitted first/,
  );
  expect(trained.code).toBe(0);
  const goesOn = (...args: string[]) =>
    heddle(['train', whole, ...few, '--steps', '22', '--out', run, ...args, '--resume']);
  for (const [args, message] of [
    [['--time', 'date'], /--time is date, and the run in .* has when: resume with the same/],
    [['--horizon', '8'], /--horizon is 8, and the run in .* has 9: /],
    [['--patch', '2'], /--patch is 2, and the run in .* has 1: /],
    [['--size', 'small'], /is of another model than --size small: /],
    [['--design', 'ssm'], /is of another model than --design ssm: /],
  ] as const) {
    expect((await goesOn(...args)).stderr).toMatch(message);
  }
  expect((await goesOn('--design', 'hybrid', '--size', 'nano')).code).toBe(0);

  const [once, later] = [dated('weeks.csv', 0, 190), dated('days.csv', 190, 193)];
  const state = at('dated state');
  for (const device of ['cpu', 'wasm']) {
    const { stdout } = await heddle(['forecast', run, once, '--save-state', state, '--device', device]);
    const [header, ...lines] = stdout.trim().split('\n');
    expect(header).toBe('step,time,target,q10,q20,q30,q40,q50,q60,q70,q80,q90');
    for (const [i, line] of lines.entries()) {
      const [step, time, target, ...said] = line.split(',');
      expect([step, time, target]).toEqual([String(i + 1), day(190 + i), 'load']);
      expect(Math.abs(Number(said[4]) - load(190 + i)), `${device} ${time}`).toBeLessThan(5);
    }
    const next = await heddle(['forecast', run, later, '--state', state, '--device', device, '--steps', '1']);
    expect(next.stdout).toContain(`\n1,${day(193)},load,`);
  }

  const refused = async (message: RegExp, ...args: string[]): Promise<void> => {
    const { code, stderr } = await heddle(args);
    expect(stderr).toMatch(message);
    expect(code).toBe(1);
  };
  await refused(
    /late\.csv begins at 2024-07-10, and the next row of the state is that of 2024-07-09/,
    ...['forecast', run, dated('late.csv', 191, 195), '--state', state],
  );
  const gap = dated('gap.csv', 0, 60, 30);
  const uneven = /gap\.csv: row 31 is at 2024-02-01T00:00:00, behind 2024-01-30.*give each time a row/;
  await refused(uneven, 'forecast', run, gap);
  await refused(uneven, 'train', gap, ...few, '--out', at('never'));
  await refused(/no column 'date'/, 'train', whole, ...few, '--time', 'date', '--out', at('never'));
  await refused(/'load' has the times/, 'train', whole, ...few, '--time', 'load', '--out', at('never'));
  writeFileSync(at('american.csv'), 'when,load\n12/30/2024,1\n12/31/2024,2\n');
  await refused(
    /american\.csv, line 2: the column 'when' has '12\/30\/2024', which is no time: write it as 2026-01-31/,
    ...['train', at('american.csv'), ...few, '--out', at('never')],
  );
  expect(existsSync(at('never'))).toBe(false);
});
