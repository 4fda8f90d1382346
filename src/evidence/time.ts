/** The time of prefill and decoding over the context length. */
import { decodeCost } from '../bench/cost.js';
import type { Device, DeviceName } from '../engine/index.js';
import type { LanguageModel } from '../generate/index.js';
import type { Size } from '../models/index.js';
import type { Finding } from './finding.js';
import { computedOn, grouped, markdownTable, partsOf, type Report, type Section } from './section.js';
import { SIBLINGS, type Sibling } from './siblings.js';
import { costDigest, costModel, costSubject } from './subject.js';
import type { Bench, Wanted } from './work.js';

/** The longest context of each design, beyond which a transformer would take minutes. */
interface Reach {
  readonly size: Size;
  readonly growing: number;
  readonly constant: number;
}

const QUICK: Reach = { size: 'nano', growing: 4096, constant: 8192 };
const CPU: Reach = { size: 'small', growing: 16_384, constant: 65_536 };
const CUDA: Reach = { size: 'base', growing: 131_072, constant: 1_048_576 };

/** The least length for fitting exponents: at shorter ones, the overhead of a call is not negligible. */
const FITTED_FROM = 2048;

/** Seconds of prefill and decoding after contexts of increasing length. */
export const time: Section = {
  name: 'time',
  title: 'Time over context',
  works({ quick }) {
    return SIBLINGS.map((design) => ({
      name: `time/${design}`,
      alone: true,
      devices: ['cpu', 'cuda'],
      asks: () => (['cpu', 'cuda'] as const).flatMap((name) => wantedOf(design, name, quick)),
      run: ({ finding, device }) => timed(design, wantedOf(design, device.name, quick), finding, device),
    }));
  },
  report(findings) {
    const machines = grouped(findings, computedOn);
    const reports = [...machines].map(([machine, own]) => machineReport(machine, own));
    if (reports.length === 0) return undefined;
    return {
      text: reports.map(({ text }) => text).join('\n\n'),
      plots: reports.flatMap(({ plots }) => plots ?? []),
    };
  },
};

interface Timing extends Wanted {
  readonly verb: 'read' | 'write';
  readonly settings: {
    readonly size: Size;
    readonly context: number;
    readonly cache: string;
    readonly model: string;
  };
}

/** Prefill and decoding at each length at which the design is measured on a device. */
function wantedOf(design: Sibling, device: DeviceName, quick: boolean): Timing[] {
  const { size, growing, constant } = quick ? QUICK : device === 'cuda' ? CUDA : CPU;
  const longest = design === 'transformer' || design === 'hybrid-full' ? growing : constant;
  const [first, step] = device === 'cuda' ? [4096, 4] : [512, 2];
  const contexts: number[] = [];
  for (let context = first; context <= longest; context *= step) contexts.push(context);
  const model = costDigest(design, size);
  return contexts.flatMap((context) =>
    (['read', 'write'] as const).map((verb) => ({
      verb,
      of: `${device} ${verb} ${context}`,
      settings: { size, context, cache: 'float16', model },
    })),
  );
}

async function timed(
  design: Sibling,
  timings: readonly Timing[],
  finding: Bench['finding'],
  device: Device,
): Promise<void> {
  // Created for the first missing finding.
  let made: Promise<LanguageModel> | undefined;
  for (const { verb, settings, of } of timings) {
    const { context, size } = settings;
    await finding({ of, settings }, async () => {
      made ??= costSubject(costModel(design, size), device);
      const subject = await made;
      if (verb === 'write') {
        const { tokensPerSecond } = await decodeCost(subject, context);
        return { context, 'tokens/s': tokensPerSecond };
      }
      const seconds = await readingTime(subject, context);
      return { context, seconds, 'tokens/s': context / seconds };
    });
  }
  await (await made)?.dispose();
}

/** Seconds to read `count` tokens into a new sequence: the best of two runs, after a run that compiles. */
async function readingTime(model: LanguageModel, count: number): Promise<number> {
  const ids = Array.from({ length: count }, (_, i) => i % model.model.vocabSize);
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const session = model.session();
    const started = performance.now();
    await session.read(ids);
    const seconds = (performance.now() - started) / 1000;
    session.dispose();
    if (i > 0 || seconds > 20) best = Math.min(best, seconds);
    if (seconds > 20) break;
  }
  return best;
}

function machineReport(machine: string, findings: readonly Finding[]): Report {
  const reads = findings.filter(({ numbers }) => numbers.seconds !== undefined);
  const writes = findings.filter(({ numbers }) => numbers.seconds === undefined);
  const contexts = [...new Set(findings.map(({ numbers }) => numbers.context!))].sort((a, b) => a - b);
  const designs = [...grouped(findings, (finding) => partsOf(finding)[1]!).keys()];
  const rows = (some: readonly Finding[], verb: string) =>
    designs.map((design) => {
      const own = some.filter((finding) => partsOf(finding)[1] === design);
      return [
        `${verb}, ${design}`,
        ...contexts.map((n) => {
          const found = own.find(({ numbers }) => numbers.context === n);
          return found ? Math.round(found.numbers['tokens/s']!).toLocaleString('en') : '-';
        }),
        verb === 'reading' ? exponentOf(own) : '',
      ];
    });
  const size = findings[0]!.settings.size;
  const name = machine.replace(/\W+/g, '-').toLowerCase();
  return {
    text: [
      `On ${machine}, size \`${size}\`: tokens a second when so many are read at once, and when one is written behind so many. The exponent b is fitted to seconds = a n^b of reading, from ${FITTED_FROM.toLocaleString('en')} tokens on: 1 is time in proportion to the text, 2 in proportion to its square.`,
      markdownTable([
        ['tokens', ...contexts.map((n) => n.toLocaleString('en')), 'exponent'],
        ...rows(reads, 'reading'),
        ...rows(writes, 'writing'),
      ]),
    ].join('\n\n'),
    plots: [
      {
        name: `time-${name}`,
        title: `Reading on ${machine}`,
        x: { title: 'tokens read', log: true },
        y: { title: 'seconds', log: true },
        points: reads.map((finding) => ({
          series: partsOf(finding)[1]!,
          x: finding.numbers.context!,
          y: finding.numbers.seconds!,
        })),
      },
    ],
  };
}

/** The exponent b of seconds = a n^b, by least squares of the logarithms. */
export function exponentOf(findings: readonly Pick<Finding, 'numbers'>[]): string {
  const points = findings
    .map(({ numbers }) => [numbers.context!, numbers.seconds!] as const)
    .filter(([n]) => n >= FITTED_FROM)
    .map(([n, seconds]) => [Math.log(n), Math.log(seconds)] as const);
  if (points.length < 2) return '-';
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  const [x, y] = [mean(points.map(([a]) => a)), mean(points.map(([, b]) => b))];
  const over = points.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0);
  return (over / points.reduce((sum, [a]) => sum + (a - x) ** 2, 0)).toFixed(2);
}
