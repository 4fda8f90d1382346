/** The memory of a sequence over its length. */
import { peakMemory } from '../bench/machine.js';
import { stateBytes } from '../nn/index.js';
import type { Finding } from './finding.js';
import { grouped, markdownTable, partsOf, type Section } from './section.js';
import { parametersIn, SIBLINGS } from './siblings.js';
import { costDigest, costModel, costSubject, filledState } from './subject.js';
import type { Work } from './work.js';

const CONTEXTS = Array.from({ length: 13 }, (_, i) => 256 * 2 ** i);
const SIZE = 'base';

/** Bytes of a sequence by its length for every sibling, and the peak memory of a process that reads it. */
export const memory: Section = {
  name: 'memory',
  title: 'Memory over context',
  works({ quick }) {
    const peaks = quick ? [256, 4096] : [256, 8192, 65_536, 131_072, 1_048_576];
    return [
      ...SIBLINGS.map(stateWork),
      ...SIBLINGS.flatMap((design) => peaks.map((n) => peakWork(design, n))),
    ];
  },
  report(findings) {
    const states = findings.filter(({ key }) => key.endsWith('/state'));
    if (states.length === 0) return undefined;
    const bytes = new Map(states.map((finding) => [partsOf(finding)[1]!, finding.numbers]));
    const transformer = bytes.get('transformer');
    const shown = [1024, 8192, 65_536, 131_072, 1_048_576];
    const rows = [...bytes].map(([design, numbers]) => [
      design,
      millions(numbers.parameters!),
      ...shown.map((n) => megabytes(numbers[`bytes at ${n}`]!)),
      ...[8192, 65_536, 131_072].map((n) =>
        transformer ? `${(transformer[`bytes at ${n}`]! / numbers[`bytes at ${n}`]!).toFixed(1)} x` : '-',
      ),
    ]);
    const selective = bytes.get('hybrid-selective');
    const table = markdownTable([
      [
        'design',
        'parameters',
        ...shown.map((n) => n.toLocaleString('en')),
        'less at 8k',
        'at 64k',
        'at 128k',
      ],
      ...rows,
    ]);
    const room =
      selective && transformer
        ? `A selective hybrid takes ${megabytes(selective['bytes at 131072']!)} at 131,072 tokens, a transformer ${megabytes(transformer['bytes at 8192']!)} at 8,192.`
        : '';
    return {
      text: [
        'Bytes of one sequence by its length, and how many times less that is than in the transformer. In all designs four heads share a key, and keys and values are kept in float16.',
        table,
        room,
        peakText(findings),
      ].join('\n\n'),
      plots: [
        {
          name: 'memory',
          title: 'Memory of one sequence',
          x: { title: 'tokens read', log: true },
          y: { title: 'bytes', log: true },
          points: [...bytes].flatMap(([series, numbers]) =>
            CONTEXTS.map((n) => ({ series, x: n, y: numbers[`bytes at ${n}`]! })),
          ),
        },
      ],
    };
  },
};

function stateWork(design: string): Work {
  const wanted = () => ({
    of: 'state',
    settings: { size: SIZE, cache: 'float16', model: costDigest(design, SIZE) },
  });
  return {
    name: `memory/${design}`,
    asks: () => [wanted()],
    async run({ finding }) {
      await finding(wanted(), async () => {
        const model = costModel(design, SIZE);
        const bytes = CONTEXTS.map((n) => [`bytes at ${n}`, stateBytes(model.state, n)] as const);
        return { parameters: parametersIn(model), ...Object.fromEntries(bytes) };
      });
    },
  };
}

/** Work in a separate process, since a peak includes everything that a process did before. */
function peakWork(design: string, context: number): Work {
  const wanted = () => ({
    of: 'read',
    settings: { size: SIZE, cache: 'float16', model: costDigest(design, SIZE), context },
  });
  return {
    name: `memory/${design}/peak ${context}`,
    devices: ['cpu'],
    asks: () => [wanted()],
    async run({ finding, device }) {
      await finding(wanted(), async () => {
        const model = await costSubject(costModel(design, SIZE), device);
        const before = peakMemory();
        const piece = Math.min(context, model.chunk);
        const state = filledState(model, context - piece);
        const ids = Array.from({ length: piece }, (_, i) => i % model.model.vocabSize);
        await model.read({ ids, position: context - piece, state });
        const { bytes } = state;
        state.dispose();
        await model.dispose();
        return {
          context,
          'peak bytes': peakMemory(),
          'peak bytes before reading': before,
          'state bytes': bytes,
        };
      });
    },
  };
}

function peakText(findings: readonly Finding[]): string {
  const peaks = findings.filter(({ numbers }) => numbers['peak bytes'] !== undefined);
  if (peaks.length === 0) return '';
  const contexts = [...new Set(peaks.map(({ numbers }) => numbers.context!))].sort((a, b) => a - b);
  const rows = [...grouped(peaks, (finding) => partsOf(finding)[1]!)].map(([design, own]) => [
    design,
    ...contexts.map((n) => {
      const found = own.find(({ numbers }) => numbers.context === n);
      return found
        ? `${megabytes(found.numbers['peak bytes']!)} (${megabytes(found.numbers['state bytes']!)})`
        : '-';
    }),
  ]);
  return [
    'The most that a process took which read the last piece of so many tokens on the CPU, weights and all, behind a state that was allocated and filled as if the others had been read; and in brackets what its sequence really holds then:',
    markdownTable([['design', ...contexts.map((n) => n.toLocaleString('en'))], ...rows]),
  ].join('\n\n');
}

function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

function millions(count: number): string {
  return `${(count / 1e6).toFixed(1)}M`;
}
