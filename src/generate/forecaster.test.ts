/**
 * Series: what is pushed value by value, in pieces or at once gives the same forecasts, also behind a fork and a file; gaps
 * and constant channels are read; a small model learns two sines; and what cannot be read is refused and loses nothing.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { ConfigError, DataError, DeviceError, SnapshotError } from '../errors.js';
import { hybridModel, type Model, modelConfig } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { Random } from '../nn/index.js';
import { seriesData, TRAINING_DEFAULTS, train } from '../train/index.js';
import { Forecaster, type SeriesSession } from './forecaster.js';
import { loadModel } from './load-model.js';
import { SignalModel } from './signal-model.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-series-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));
const device = await openDevice('cpu', { threads: 1 });

function seriesModel(change: Record<string, unknown> = {}, pattern = 'M-*S'): Model {
  const { vocabSize: _, eosTokenId: __, ...config } = tinyConfig({ pattern });
  const input = {
    kind: 'series' as const,
    channels: ['load', 'heat'],
    targets: ['heat', 'load'],
    patch: 3,
    horizon: 5,
    quantiles: [0.1, 0.5, 0.9],
    offset: [10, -2],
    scale: [4, 0.5],
    ...change,
  };
  return hybridModel(modelConfig({ ...config, input }));
}

async function forecasterOf(model: Model): Promise<Forecaster> {
  return new Forecaster(await SignalModel.compile(model, tinyWeights(model), device));
}

/** Rows with gaps, and a second channel that stands still. */
function rows(count: number): number[][] {
  const random = new Random(3);
  return Array.from({ length: count }, (_, i) => [
    i % 7 === 3 ? Number.NaN : 10 + 4 * Math.sin(i / 3) + random.normal(),
    -2,
  ]);
}

async function heard(session: SeriesSession, steps = 5): Promise<number[]> {
  return (await session.forecast(steps)).values.flat(2);
}

function expectClose(found: readonly number[], expected: readonly number[]): void {
  expect(found.length).toBe(expected.length);
  for (const [i, value] of found.entries()) expect(value).toBeCloseTo(expected[i]!, 3);
}

describe('a stream', () => {
  test('pushed value by value, in pieces, forked and saved in the middle of a patch forecasts the same', async () => {
    const forecaster = await forecasterOf(seriesModel());
    const all = rows(40);
    const whole = forecaster.session();
    await whole.push(all);
    const expected = await heard(whole, 4);
    expect(new Set(expected.map((value) => value.toFixed(3))).size).toBeGreaterThan(8);
    const single = forecaster.session();
    for (const row of all) await single.push([row]);
    expectClose(await heard(single, 4), expected);
    const begun = forecaster.session();
    await begun.push(all.slice(0, 20));
    await begun.save(join(here, 'state'));
    const restored = await forecaster.restore(join(here, 'state'));
    expect(restored.length).toBe(20);
    expect(await heard(restored)).toEqual(await heard(begun));
    const fork = begun.fork();
    await fork.push(rows(9));
    await restored.push(all.slice(20));
    expectClose(await heard(restored, 4), expected);
    await begun.push(all.slice(20));
    expectClose(await heard(begun, 4), expected);
  });

  test('goes on beyond its horizon from its own medians', async () => {
    const forecaster = await forecasterOf(seriesModel());
    const session = forecaster.session();
    await session.push(rows(12));
    const far = await session.forecast(13);
    expect(far.values.length).toBe(13);
    const near = await session.forecast(5);
    expect(far.values.slice(0, 5)).toEqual(near.values);
    const fork = session.fork();
    await fork.push(near.values.map(([heat, load]) => [load![1]!, heat![1]!]));
    expectClose(far.values.slice(5, 9).flat(2), await heard(fork, 4));
    expect(session.length).toBe(12);
  });

  test('what is asked without waiting is done one after the other, and nothing is forked meanwhile', async () => {
    const forecaster = await forecasterOf(seriesModel());
    const all = rows(40);
    const whole = forecaster.session();
    await whole.push(all.slice(0, 31));
    const expected = await heard(whole, 4);
    const path = join(here, 'in turn');
    const session = forecaster.session();
    const pushed = [all.slice(0, 11), all.slice(11, 13), all.slice(13, 31)].map((part) => session.push(part));
    const said = heard(session, 4);
    const saved = session.save(path);
    pushed.push(session.push(all.slice(31)));
    expect(() => session.fork()).toThrow(DataError);
    await Promise.all([...pushed, saved]);
    expect(session.length).toBe(40);
    expectClose(await said, expected);
    expectClose(await heard(await forecaster.restore(path), 4), expected);
    session.fork().dispose();
  });

  test('what a missing value stands for does not matter, and quantiles ascend', async () => {
    const forecaster = await forecasterOf(seriesModel());
    const session = forecaster.session();
    await session.push(rows(12));
    for (const row of (await session.forecast(5)).values)
      for (const values of row) expect([...values].sort((a, b) => a - b)).toEqual(values);
  });
});

describe('a model with a calendar', () => {
  const calendar = {
    ...{ column: 'when', fields: ['day-of-week', 'hour-of-day'] },
    ...{ step: 21_600, unit: 'seconds' },
  };
  const start = new Date('2024-02-27T06:00:00Z');

  test.each([{ lags: 2 }, {}])(
    'reads the same whole, in pieces, row by row and restored (%o)',
    async (change) => {
      const forecaster = await forecasterOf(seriesModel({ calendar, ...change }));
      const all = rows(41);
      const whole = forecaster.session({ start });
      await whole.push(all);
      const expected = await heard(whole, 3);
      const single = forecaster.session({ start });
      for (const row of all) await single.push([row]);
      expectClose(await heard(single, 3), expected);
      const begun = forecaster.session({ start });
      await begun.push(all.slice(0, 20));
      await begun.save(join(here, 'dated'));
      const restored = await forecaster.restore(join(here, 'dated'));
      expect(restored.next).toEqual(new Date('2024-03-03T06:00:00Z'));
      for (const session of [restored, begun.fork()]) {
        await session.push(all.slice(20));
        expectClose(await heard(session, 3), expected);
        expect((await session.forecast(2)).times).toEqual([
          new Date('2024-03-08T12:00:00Z'),
          new Date('2024-03-08T18:00:00Z'),
        ]);
      }
      // Beyond the horizon the calendar goes on.
      const far = await whole.forecast(9);
      expect(far.times!.at(-1)).toEqual(new Date('2024-03-10T12:00:00Z'));
      // The calendar counts: the same rows at other times are forecast otherwise.
      const other = forecaster.session({ start: new Date('2024-02-29T12:00:00Z') });
      await other.push(all);
      const differences = (await heard(other, 3)).map((value, i) => Math.abs(value - expected[i]!));
      expect(Math.max(...differences)).toBeGreaterThan(0.05);
    },
  );

  test('forecasts the effects of the rows to come, not of those that were read', async () => {
    // Only effects say anything: each row is what the calendar says of it.
    const model = seriesModel({ calendar, targets: ['load'], offset: [0, 0], scale: [1, 1] });
    const weights = new Map(tinyWeights(model));
    for (const name of ['output.weight', 'output.bias']) {
      const { data, dims } = weights.get(name)!;
      weights.set(name, { dtype: 'float32', dims, data: new Float32Array(data.length) });
    }
    const table = weights.get('calendar.weight')!;
    const effects = Float32Array.from(table.data as Float32Array, (_, i) => (i % 2 === 0 ? Math.sin(i) : 0));
    weights.set('calendar.weight', { ...table, data: effects });
    const forecaster = new Forecaster(await SignalModel.compile(model, weights, device));
    const effectAt = (i: number): number => {
      const time = new Date(start.getTime() + i * 21_600_000);
      const day = (time.getUTCDay() + 6) % 7;
      return effects[2 * day]! + effects[2 * (7 + time.getUTCHours())]!;
    };
    const session = forecaster.session({ start });
    await session.push(Array.from({ length: 14 }, (_, i) => [effectAt(i), Number.NaN]));
    const { values } = await session.forecast(3);
    for (const [i, [load]] of values.entries()) expect(load![1]!).toBeCloseTo(effectAt(14 + i), 4);
  });

  test('of month ends is at the last day of each month, also restored, and with fractions of a second', async () => {
    const monthly = { ...calendar, fields: ['month-of-year'], step: 1, unit: 'month-ends' };
    const forecaster = await forecasterOf(seriesModel({ calendar: monthly }));
    const session = forecaster.session({ start: new Date('2026-01-31T23:59:59.250Z') });
    await session.push(rows(1));
    expect(session.next).toEqual(new Date('2026-02-28T23:59:59.250Z'));
    await session.save(join(here, 'monthly'));
    const restored = await forecaster.restore(join(here, 'monthly'));
    await restored.push(rows(2));
    expect(restored.next).toEqual(new Date('2026-04-30T23:59:59.250Z'));
    expect(() => forecaster.session({ start: new Date('2026-01-30') })).toThrow(/no last day of a month/);
  });

  test('is refused without a start, and with one that is none', async () => {
    const forecaster = await forecasterOf(seriesModel({ calendar }));
    expect(() => forecaster.session()).toThrow(/6 hours apart: say when the first one is/);
    expect(() => forecaster.session({ start: new Date('nonsense') })).toThrow(ConfigError);
    expect((await forecasterOf(seriesModel())).session({ start }).next).toBeUndefined();
  });

  test.each([
    [{ ...calendar, fields: ['day-of-week', 'day-of-week'] }, /a field of the calendar is named twice/],
    [{ ...calendar, fields: ['phase-of-moon'] }, /input\.calendar\.fields/],
    [{ ...calendar, fields: [] }, /input\.calendar\.fields/],
    [{ ...calendar, step: 0.5 }, /input\.calendar\.step/],
  ])('of %o is refused', (wrong, message) => {
    expect(() => seriesModel({ calendar: wrong })).toThrow(message);
  });
});

test('two sines are learned in a moment, on the device that reads and the one that writes', async () => {
  const model = seriesModel({ offset: [0, 0], scale: [1, 1], patch: 2, horizon: 8 }, 'M-*-');
  const random = new Random(5);
  const length = 1200;
  const values = Float32Array.from({ length: 2 * length }, (_, i) => {
    const t = Math.floor(i / 2);
    return i % 2 === 0
      ? Math.sin(t / 4) + 0.02 * random.normal()
      : 3 + Math.cos(t / 7) + 0.02 * random.normal();
  });
  const channels = ['load', 'heat'];
  const part = (from: number, to: number) => ({ channels, values: values.slice(2 * from, 2 * to) });
  const folder = join(here, 'run');
  const losses: number[] = [];
  await train({
    model,
    data: seriesData(part(0, 1000), part(1000, 1200)),
    settings: {
      ...TRAINING_DEFAULTS,
      steps: 160,
      batch: 4,
      sequence: 24,
      learningRate: 1e-2,
      evaluateEvery: 160,
    },
    device,
    folder,
    onEvent: (event) => event.event === 'evaluation' && losses.push(event.loss),
  });
  expect(losses.at(-1)!).toBeLessThan(losses[0]! / 3);
  for (const name of ['cpu', 'wasm'] as const) {
    const forecaster = await loadModel(join(folder, 'checkpoint'), { kind: 'series', device: name });
    const session = forecaster.session();
    await session.push(
      Array.from({ length: 60 }, (_, t) => [Math.sin((1000 + t) / 4), 3 + Math.cos((1000 + t) / 7)]),
    );
    const { values: said } = await session.forecast(8);
    for (const [i, [heat, load]] of said.entries()) {
      expect(Math.abs(load![1]! - Math.sin((1060 + i) / 4)), `${name} load ${i}`).toBeLessThan(0.4);
      expect(Math.abs(heat![1]! - 3 - Math.cos((1060 + i) / 7)), `${name} heat ${i}`).toBeLessThan(0.4);
    }
    await forecaster.dispose();
  }
});

describe('refused, with nothing lost', () => {
  test('rows of another width, infinite values, too little to go on from', async () => {
    const forecaster = await forecasterOf(seriesModel());
    const session = forecaster.session();
    await expect(session.forecast(1)).rejects.toThrow(/0 rows were read: a forecast needs 3/);
    await session.push(rows(10));
    await expect(session.push([[1, 2], [1]])).rejects.toThrow(
      /row 2 has 1 values, and the model reads 2: load, heat/,
    );
    await expect(session.push([[1, Number.POSITIVE_INFINITY]])).rejects.toThrow(DataError);
    for (const [given, words] of [
      [5, /the rows are no list: expected rows of values/],
      [undefined, /the rows are no list/],
      [[1, 2], /row 1 is no list of values, one for each of load, heat/],
      [[[1, 2], null], /row 2 is no list of values/],
      [[[1, 'a']], /row 1 has "a" as heat: expected a number, or NaN where it is missing/],
      [[[1, undefined]], /row 1 has undefined as heat/],
      [[Array(2)], /row 1 has undefined as load/],
    ] as const) {
      const pushed = session.push(given as never);
      await expect(pushed).rejects.toThrow(DataError);
      await expect(pushed).rejects.toThrow(words);
    }
    await expect(session.forecast(0)).rejects.toThrow(ConfigError);
    expect(session.length).toBe(10);
    await forecaster.dispose();
    const gone = new DeviceError('the model was disposed of: load it again');
    await expect(session.push(rows(3))).rejects.toThrow(gone);
    expect(() => forecaster.session()).toThrow(gone);
  });

  test('a horizon beyond what is known of channels that are not forecast', async () => {
    const session = (await forecasterOf(seriesModel({ targets: ['load'] }))).session();
    await session.push(rows(10));
    await expect(session.forecast(5)).rejects.toThrow(/ask for 4 at most/);
    expect((await session.forecast(4)).values[0]!.length).toBe(1);
  });

  test('a file that is damaged, or of another model', async () => {
    const session = (await forecasterOf(seriesModel())).session();
    await session.push(rows(10));
    const path = join(here, 'damaged');
    await session.save(path);
    const other = await forecasterOf(seriesModel({ horizon: 6 }));
    await expect(other.restore(path)).rejects.toThrow(/another heddle model/);
    const bytes = readFileSync(path);
    bytes[bytes.length - 5]! ^= 1;
    writeFileSync(path, bytes);
    await expect((await forecasterOf(seriesModel())).restore(path)).rejects.toThrow(SnapshotError);
  });

  test.each([
    [{ targets: ['wind'] }, /targets must be among the channels \(load, heat\)/],
    [{ channels: ['load', 'load'] }, /two channels have one name/],
    [{ quantiles: [0.9, 0.5] }, /ascend/],
    [{ quantiles: [0.1, 0.9] }, /0\.5/],
    [{ scale: [1] }, /a number for each of the 2 channels/],
    [{ patch: 0 }, /input\.patch/],
    [{ patch: 6 }, /patch is 6 and horizon 5: .* horizon must be at least patch/],
    [{ kind: 'smells' }, /input/],
  ])('a config with %o', (change, message) => {
    expect(() => seriesModel(change)).toThrow(message);
  });

  test('a model of text with an input, and one of neither', () => {
    const { input } = seriesModel().json as { input: object };
    expect(() => tinyConfig({ input: input as never })).toThrow(/leave one out/);
    expect(() => tinyConfig({ vocabSize: 0 })).toThrow(ConfigError);
  });
});
