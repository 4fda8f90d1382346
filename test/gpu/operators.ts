/**
 * `npm run test:gpu`: every operator's cases on the GPU, forward and gradient, against the kernels for the CPU. It prints a table, writes
 * all numbers to `gpu-operators.json` (or to the path that is given), and fails where one is off.
 */
import { writeFileSync } from 'node:fs';
import { type Device, openDevice } from '../../src/engine/index.js';
import { withInputs } from '../../src/engine/testing/with-inputs.js';
import { isDifferentiable, operators, type Precision } from '../../src/graph/index.js';
import { allCases } from '../../src/graph/ops/testing/index.js';
import { relativeError, toArray } from '../../src/graph/testing/arrays.js';
import { feedsOf, graphOf } from '../../src/graph/testing/operator-case.js';
import { type ComparedCase, largeCases } from './large-cases.js';

/** Largest errors in norm: of what is computed in float32, and with products in bfloat16. */
const TOLERANCES: Readonly<Record<Precision, number>> = { float32: 1e-4, bfloat16: 5e-2 };
/** Programs that are compiled at a time. */
const AT_ONCE = 8;

interface Result {
  readonly operator: string;
  readonly name: string;
  readonly precision: Precision;
  readonly value: number;
  readonly gradient: number;
  readonly error?: string;
}

async function compare(
  operator: string,
  proof: ComparedCase,
  precision: Precision,
  devices: { cpu: Device; gpu: Device },
): Promise<Result> {
  const result = { operator, name: proof.name, precision };
  try {
    const withGradients = !proof.isForwardOnly && isDifferentiable(operators().get(operator)!);
    const outputs = graphOf(proof, withGradients);
    const run = async (device: Device) => {
      const executable = await device.compile(withInputs({ outputs }));
      const made = await executable.run(feedsOf(proof));
      await executable.dispose();
      return made;
    };
    const [expected, actual] = [await run(devices.cpu), await run(devices.gpu)];
    const worst = (kind: string): number =>
      Math.max(
        0,
        ...Object.keys(outputs)
          .filter((name) => name.startsWith(kind))
          .map((name) => relativeError(toArray(actual[name]!).data, toArray(expected[name]!).data)),
      );
    return { ...result, value: worst('value'), gradient: worst('gradient') };
  } catch (error) {
    return { ...result, value: Number.NaN, gradient: Number.NaN, error: (error as Error).message };
  }
}

function passes({ precision, value, gradient }: Result): boolean {
  return value <= TOLERANCES[precision] && gradient <= TOLERANCES[precision];
}

const cpu = await openDevice('wasm', { threads: 1 });
const results: Result[] = [];
for (const precision of ['float32', 'bfloat16'] as const) {
  // A part of the memory is enough for small graphs, and leaves the rest to others.
  const gpu = await openDevice('cuda', { precision, memoryFraction: 0.2 });
  const all: (readonly [string, readonly ComparedCase[]])[] = [...allCases(), ...Object.entries(largeCases)];
  const tasks = all.flatMap(([operator, cases]) => cases.map((proof) => ({ operator, proof })));
  const queue = tasks.values();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const { operator, proof } of queue)
        results.push(await compare(operator, proof, precision, { cpu, gpu }));
    }),
  );
  await gpu.dispose();
}
await cpu.dispose();

const failed = results.filter((result) => !passes(result));
const groups = new Map<string, Result[]>();
for (const result of results) groups.set(result.operator, [...(groups.get(result.operator) ?? []), result]);
const cell = (value: number): string => value.toExponential(1).padStart(9);
console.log(`${'operator'.padEnd(24)}cases  float32: value  gradient  bfloat16: value  gradient`);
for (const [operator, own] of [...groups].sort(([a], [b]) => (a < b ? -1 : 1))) {
  const worst = (precision: Precision, kind: 'value' | 'gradient'): string =>
    cell(Math.max(...own.filter((result) => result.precision === precision).map((result) => result[kind])));
  console.log(
    `${operator.padEnd(24)}${String(own.length / 2).padStart(5)}  ${worst('float32', 'value').padStart(14)} ${worst('float32', 'gradient')}  ${worst('bfloat16', 'value').padStart(15)} ${worst('bfloat16', 'gradient')}`,
  );
}
for (const { operator, name, precision, value, gradient, error } of failed) {
  console.log(`failed: ${operator}, ${name}, ${precision}: ${error ?? `off by ${value} and ${gradient}`}`);
}
const path = process.argv[2] ?? 'gpu-operators.json';
writeFileSync(path, `${JSON.stringify({ tolerances: TOLERANCES, results }, undefined, 1)}\n`);
console.log(`${results.length - failed.length} of ${results.length} passed; ${path} has all numbers`);
process.exit(failed.length === 0 ? 0 : 1);
