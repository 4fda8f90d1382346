/** The energy of prefill and decoding on a GPU, from the power that its driver reports. */
import type { LanguageModel } from '../generate/index.js';
import { MEAN_SECONDS, PowerMeter } from './power.js';
import { computedOn, grouped, markdownTable, partsOf, type Section } from './section.js';
import { parametersIn } from './siblings.js';
import { costDigest, costModel, costSubject } from './subject.js';
import type { Work } from './work.js';

const DESIGNS = ['transformer', 'hybrid-full', 'hybrid-selective'] as const;
const CONTEXTS = [8192, 65_536, 262_144];
/** Twice as wide as `base`: a small model would leave the GPU idle, and its idle power would dominate. */
const WIDE = {
  hidden_size: 1024,
  num_attention_heads: 16,
  mamba_num_heads: 32,
  intermediate_size: 2272,
};
const CHUNK = 4096;
const SECONDS = 2.5;

/** The energy per token, measured on a GPU. */
export const energy: Section = {
  name: 'energy',
  title: 'Energy on a GPU',
  works({ quick }) {
    if (quick) return [];
    return DESIGNS.map((design): Work => {
      const asks = () => {
        const model = costDigest(design, 'base', WIDE);
        return CONTEXTS.flatMap((context) =>
          (['read', 'write'] as const).map((verb) => ({
            ...{ verb, of: `${verb} ${context}` },
            settings: { context, cache: 'float16', seconds: SECONDS, model },
          })),
        );
      };
      return {
        name: `energy/${design}`,
        alone: true,
        devices: ['cuda'],
        asks,
        async run({ finding, device }) {
          const model = costModel(design, 'base', WIDE);
          const parameters = parametersIn(model);
          let made: Promise<LanguageModel> | undefined;
          for (const { verb, of, settings } of asks()) {
            const { context } = settings;
            await finding({ of, settings }, async () => {
              made ??= costSubject(model, device);
              return { context, parameters, ...(await powered(await made, verb, context)) };
            });
          }
          await (await made)?.dispose();
        },
      };
    });
  },
  report(findings) {
    if (findings.length === 0) return undefined;
    const rows = [...grouped(findings, (finding) => partsOf(finding)[1]!)].flatMap(([design, own]) =>
      (['read', 'write'] as const).map((verb) => [
        `${verb === 'read' ? 'reading' : 'writing'}, ${design}`,
        ...CONTEXTS.map((context) => {
          const found = own.find(({ key }) => key.endsWith(`/${verb} ${context}`));
          if (!found) return '-';
          const { 'joules for 1,000 tokens': joules, watts, 'tokens/s': rate } = found.numbers;
          return `${joules!.toLocaleString('en', { maximumSignificantDigits: 3 })} J (${Math.round(watts!)} W, ${Math.round(rate!).toLocaleString('en')}/s)`;
        }),
      ]),
    );
    return {
      text: [
        `Joules for writing 1,000 tokens after so many others on ${computedOn(findings[0]!)}, ${(findings[0]!.numbers.parameters! / 1e6).toFixed(0)}M parameters; in brackets the mean power that \`nvidia-smi\` told while it computed, and tokens a second. Read in pieces of ${CHUNK.toLocaleString('en')} tokens, written one sequence at a time.`,
        markdownTable([['', ...CONTEXTS.map((n) => n.toLocaleString('en'))], ...rows]),
      ].join('\n\n'),
      plots: [
        {
          name: 'energy',
          title: 'Energy of writing 1,000 tokens',
          x: { title: 'tokens read before', log: true },
          y: { title: 'joules' },
          points: findings
            .filter(({ key }) => /\/write \d+$/.test(key))
            .map((finding) => ({
              series: partsOf(finding)[1]!,
              x: finding.numbers.context!,
              y: finding.numbers['joules for 1,000 tokens']!,
            })),
        },
      ],
    };
  },
};

async function powered(model: LanguageModel, verb: 'read' | 'write', context: number) {
  const size = verb === 'read' ? CHUNK : 1;
  const ids = Array.from({ length: size }, (_, i) => i % model.model.vocabSize);
  const start = model.newState(undefined, context);
  let state = start.fork();
  let position = context;
  // The context must not grow much beyond the start during the measurement.
  const again = verb === 'read' ? 1 : 256;
  let calls = 0;
  const step = async (): Promise<void> => {
    if (calls % again === 0) {
      state.dispose();
      state = start.fork();
      position = context;
    }
    await model.read({ ids, position, state });
    position += size;
    calls++;
  };
  for (let i = 0; i < 3; i++) await step();
  // The GPU computes before the first sample counts, for as long as the driver's mean reaches back.
  const meter = PowerMeter.start();
  const begun = performance.now();
  while (!meter.isRunning || performance.now() - begun < 1000 * MEAN_SECONDS) {
    await step();
    meter.expectRunning(performance.now() - begun);
  }
  meter.clear();
  const started = performance.now();
  const before = calls;
  while (performance.now() - started < SECONDS * 1000) await step();
  const seconds = (performance.now() - started) / 1000;
  const watts = meter.stop();
  state.dispose();
  start.dispose();
  const tokens = (calls - before) * size;
  return {
    ...{ watts, seconds, tokens, 'tokens/s': tokens / seconds },
    'joules for 1,000 tokens': (1000 * watts * seconds) / tokens,
  };
}
