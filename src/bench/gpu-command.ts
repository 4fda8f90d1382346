/** `npm run bench -- gpu`: training, decoding and prefill on NVIDIA GPUs, compared with PyTorch if it is available. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { writeFileAtomic } from '../checkpoint/index.js';
import { type DeviceOptions, openDevice } from '../engine/index.js';
import { expectWritable } from '../platform/node/writable.js';
import {
  firstTokens,
  type ReadRate,
  readRates,
  type WriteRate,
  withRandomModel,
  writeRate,
} from './gpu-generation.js';
import { hybrid350, RACED, SHARED_TASK, SMALL, TINY } from './gpu-tasks.js';
import {
  furthest,
  measureShared,
  measureSmall,
  plotsOfShared,
  raceTraining,
  type SharedRate,
  type StepRate,
} from './gpu-training.js';
import { plotSvg } from './plot.js';
import { positive } from './positive.js';
import { GRANITE_3B, GRANITE_350M, graniteModel } from './shapes.js';
import { decimal, megabytes, millions, milliseconds, percent, table } from './table.js';

const PARTS = ['train', 'small', 'write', 'write-3b', 'read', 'first'] as const;
type Part = (typeof PARTS)[number];

/** An H200's memory bandwidth in bytes/s, reads and writes together, measured with a large copy. */
const BANDWIDTH = 4.3e12;

interface GpuOptions {
  only: readonly Part[];
  peer?: string;
  devices?: number;
  steps: number;
  seconds: number;
  memory?: number;
  quick: boolean;
  json?: string;
  plots?: string;
}

async function runGpu(options: GpuOptions): Promise<void> {
  if (options.json !== undefined) await expectWritable(options.json);
  const results: Record<string, unknown> = {};
  const record = async (part: string, value: unknown): Promise<void> => {
    results[part] = value;
    if (options.json !== undefined)
      await writeFileAtomic(options.json, `${JSON.stringify(results, null, 2)}\n`);
  };
  const taken = options.memory === undefined ? {} : { memoryFraction: options.memory };
  if (options.devices !== undefined) return runShared(options.devices, { ...options, taken, record });

  const started = performance.now();
  const device = await openDevice('cuda', taken);
  const [memory] = device.gpuMemory?.() ?? [];
  say(`${memory?.kind ?? device.name}, Node ${process.version}`);
  const parts: Record<Part, () => Promise<void>> = {
    async train() {
      const rates: StepRate[] = [];
      for await (const rate of raceTraining(options.quick ? TINY : RACED, device, options.peer)) {
        rates.push(rate);
        await record('train', rates);
        say(
          `train ${rate.name}: ${millions(rate.parameters)} parameters, ${decimal(rate.tokens)} tokens a step, bfloat16\n${table(
            [
              ['', 'a step', 'best', 'tokens/s'],
              ['heddle', milliseconds(rate.seconds), milliseconds(rate.best), decimal(rate.tokensPerSecond)],
              ...(rate.peer
                ? [
                    [
                      `torch.compile (${rate.peer.ratio.toFixed(2)} x)`,
                      '',
                      '',
                      decimal(rate.peer.tokensPerSecond),
                    ],
                  ]
                : []),
            ],
          )}${rate.failure === undefined ? '' : `\n  no peer: ${rate.failure}`}`,
        );
      }
    },
    async small() {
      const rates: StepRate[] = [];
      for await (const rate of measureSmall(options.quick ? TINY : SMALL, device)) {
        rates.push(rate);
        await record('small', rates);
        say(
          `train ${rate.name}: ${millions(rate.parameters)} parameters, ${decimal(rate.tokens)} tokens a step: ${decimal(rate.tokensPerSecond)} tokens/s`,
        );
      }
    },
    write: () => write('350M', GRANITE_350M, [16, 4], [1, 8]),
    'write-3b': () => write('3B', GRANITE_3B, [16, 4], [1]),
    async read() {
      const rates: ReadRate[] = [];
      const models = [
        { name: 'hybrid 350M', model: hybrid350(), lengths: [8192, 32_768, 131_072, 524_288, 1_048_576] },
        { name: 'granite 350M', model: graniteModel(GRANITE_350M), lengths: [8192, 16_384] },
      ];
      for (const { name, model, lengths } of models) {
        await withRandomModel(model, 16, device, async (language) => {
          for await (const rate of readRates(name, language, lengths)) {
            rates.push(rate);
            await record('read', rates);
            say(
              `read ${name}: ${decimal(rate.from)} to ${decimal(rate.to)}: ${decimal(rate.tokensPerSecond)} tokens/s`,
            );
          }
        });
      }
    },
    async first() {
      const times = await firstTokens('cuda');
      await record('first', times);
      const row = (name: string, { first, end }: typeof times.cold): string[] => [
        name,
        `${decimal(first)} s`,
        `${decimal(end)} s`,
      ];
      say(
        `heddle generate sotu-hybrid --device cuda, 48 tokens\n${table([
          ['', 'first text', 'end'],
          row('no program on disk', times.cold),
          row('programs on disk', times.warm),
        ])}`,
      );
    },
  };
  async function write(
    name: string,
    shape: typeof GRANITE_350M,
    bits: readonly (4 | 16)[],
    rows: readonly number[],
  ): Promise<void> {
    const rates = (results.write as WriteRate[] | undefined) ?? [];
    for (const each of bits) {
      await withRandomModel(graniteModel(shape), each, device, async (language, bytes) => {
        for (const count of rows) {
          const tokensPerSecond = await writeRate(language, count, 256);
          const bytesPerSecond = (bytes * tokensPerSecond) / count;
          rates.push({ name, bits: each, rows: count, tokensPerSecond, bytesPerSecond });
          await record('write', rates);
          say(
            `write ${name}, ${each} bits, ${count} at once: ${decimal(tokensPerSecond)} tokens/s; weights of ${megabytes(bytes)} (${percent(bytesPerSecond / BANDWIDTH)} of ${BANDWIDTH / 1e12} TB/s)`,
          );
        }
      });
    }
  }
  for (const part of options.only) {
    if ((performance.now() - started) / 1000 > options.seconds) {
      say(`not measured, because the time is over: ${part}`);
      continue;
    }
    // A part that fails is reported, and the others continue.
    await parts[part]().catch((error: unknown) => say(`${part} failed: ${(error as Error).message}`));
  }
  await device.dispose();
}

async function runShared(
  devices: number,
  {
    steps,
    quick,
    taken,
    plots,
    record,
  }: GpuOptions & {
    readonly taken: DeviceOptions;
    readonly record: (part: string, value: unknown) => Promise<void>;
  },
): Promise<void> {
  const rates: SharedRate[] = [];
  for await (const rate of measureShared(devices, steps, taken, quick ? TINY[0]! : SHARED_TASK)) {
    rates.push(rate);
    await record('shared', rates);
    const each = rate.memory.map(
      ({ inUse, peak }) => `${decimal(inUse / 1e9)} GB (peak ${decimal(peak / 1e9)})`,
    );
    say(
      `train ${rate.name}: ${millions(rate.parameters)} parameters: ${decimal(rate.tokensPerSecond)} tokens/s; a GPU holds ${each.join(', ')}; last loss ${rate.losses.at(-1)!.toFixed(4)}`,
    );
  }
  const one = rates.at(-1)!;
  say(
    table([
      ['', 'tokens/s', 'x 1 GPU', 'losses apart, at most'],
      ...rates.map(({ name, tokensPerSecond, losses }) => [
        name,
        decimal(tokensPerSecond),
        (tokensPerSecond / one.tokensPerSecond).toFixed(2),
        furthest(losses, one.losses).toExponential(1),
      ]),
    ]),
  );
  if (plots === undefined) return;
  await mkdir(plots, { recursive: true });
  for (const plot of plotsOfShared(rates))
    await writeFileAtomic(join(plots, `${plot.name}.svg`), await plotSvg(plot));
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Adds the command. */
export function addGpuCommand(program: Command): void {
  program
    .command('gpu')
    .description('training, decoding and prefill on an NVIDIA GPU (cuda), compared with PyTorch')
    .addOption(
      new Option('--only <parts>', `some of ${PARTS.join(',')}`)
        .argParser((text) =>
          text.split(',').map((name) => {
            const part = PARTS.find((each) => each === name);
            if (!part) throw new InvalidArgumentError(`expected some of ${PARTS.join(',')}.`);
            return part;
          }),
        )
        .default(PARTS, 'all'),
    )
    .option('--peer <python>', 'a Python with torch that trains the same models, in alternating rounds')
    .option(
      '--devices <n>',
      'instead train one model on this many GPUs, data parallel and sharded, and on one GPU',
      positive,
    )
    .option('--steps <n>', 'steps of a round, with --devices', positive, 100)
    .option('--plots <folder>', 'with --devices, also draw throughput and memory')
    .option('--seconds <n>', 'no part starts after this many seconds', positive, 3600)
    .option(
      '--memory <share>',
      'share of GPU memory that a process may take, as it needs it; a peer has what is left',
      Number,
    )
    .option('--quick', 'tiny models, to test the command rather than the speed', false)
    .option('--json <file>', 'also write the results, part by part as they are measured')
    .action((options: GpuOptions) => runGpu(options));
}
