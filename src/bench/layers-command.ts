/** `npm run bench -- layers`: training, prefill and decoding of models with one kind of mixer, in alternating rounds with a reference kind. */
import { type Command, Option } from 'commander';
import { quantizeBlocks } from '../checkpoint/index.js';
import {
  type Device,
  type Executable,
  type HostTensor,
  int64,
  openDevice,
  type State,
  type Weight,
} from '../engine/index.js';
import { decoderPrograms } from '../generate/index.js';
import {
  hybridModel,
  type Model,
  type ModelConfig,
  modelConfig,
  parametersOf,
  quantizable,
} from '../models/index.js';
import { listOf } from './list-of.js';
import { describeMachine } from './machine.js';
import { positive } from './positive.js';
import { quantile } from './quantile.js';
import { quickWeights } from './quick-weights.js';
import { machineText } from './report.js';
import { decimal, table } from './table.js';
import { compileStep, startRun } from './training.js';

/** A timed task of one model, in seconds per token. */
interface Task {
  readonly name: (typeof TASKS)[number];
  start(letter: string): Promise<{ round(): Promise<number>; dispose(): Promise<void> }>;
}

interface LayersOptions {
  readonly letters: readonly string[];
  readonly against: string;
  readonly tasks: readonly (typeof TASKS)[number][];
  readonly size: number;
  readonly layers: number;
  readonly heads?: number;
  readonly headSize: number;
  readonly state: number;
  readonly tokens: number;
  readonly batch: number;
  readonly rounds: number;
  readonly threads: number;
  readonly device: 'cpu' | 'cuda';
}

const TASKS = ['train', 'read', 'write'] as const;
const VOCABULARY = 512;
const BLOCK = 32;
/** Tokens decoded per round. */
const WRITTEN = 32;

/** The config: by default, delta nets and similar layers are as wide as the model, and Mamba-2 is twice as wide, as published. */
function configOf(letter: string, options: LayersOptions): ModelConfig {
  const { size, layers, heads, headSize, state, tokens } = options;
  return modelConfig({
    modelType: 'heddle',
    vocabSize: VOCABULARY,
    hiddenSize: size,
    pattern: `(${letter}-)x${layers}`,
    intermediateSize: 64 * Math.round((size * 8) / 3 / 64),
    maxPositionEmbeddings: tokens,
    mambaNumHeads: size / 32,
    mambaHeadDim: 64,
    ssmStateSize: state,
    linearKeyHeadDim: headSize,
    ...(heads !== undefined && { linearNumHeads: heads }),
    eosTokenId: 0,
  });
}

/** Random weights, with matrices in blocks of 4 bits. */
function quantizedWeights(model: Model): Map<string, Weight> {
  const weights: Map<string, Weight> = new Map(quickWeights(parametersOf(model)));
  for (const name of quantizable(model, { bits: 4, block: BLOCK })) {
    const { dims, data } = weights.get(name) as HostTensor;
    const blocks = quantizeBlocks(data as Float32Array, dims.at(-1)!, 4, BLOCK);
    weights.set(name, { dims, bits: 4, block: BLOCK, ...blocks });
  }
  return weights;
}

function training(device: Device, options: LayersOptions): Task {
  return {
    name: 'train',
    async start(letter) {
      const { batch, tokens: sequence } = options;
      const task = { name: letter, config: configOf(letter, options), batch, sequence };
      const run = startRun(task, await compileStep(task, device), { steps: 1 });
      return {
        round: async () => (await run.round()).seconds / (batch * sequence),
        dispose: () => run.dispose(),
      };
    },
  };
}

function generating(name: 'read' | 'write', device: Device, options: LayersOptions): Task {
  const count = name === 'read' ? 1 : WRITTEN;
  const tokens = name === 'read' ? options.tokens : 1;
  return {
    name,
    async start(letter) {
      const model = hybridModel(configOf(letter, options));
      const programs = decoderPrograms(model, quantizedWeights(model));
      const executable: Executable = await device.compile(programs[name]);
      const ids = int64(
        Array.from({ length: tokens }, (_, i) => i % VOCABULARY),
        [1, tokens],
      );
      return {
        async round() {
          const state: State = executable.newState();
          const started = performance.now();
          for (let i = 0; i < count; i++) {
            await executable.run({ ids, position: int64([i], [1]), places: int64([tokens - 1], [1]) }, [
              state,
            ]);
          }
          const seconds = (performance.now() - started) / 1000;
          state.dispose();
          return seconds / (count * tokens);
        },
        dispose: () => executable.dispose(),
      };
    },
  };
}

/** The devices for many tokens at once and for one token. */
async function openDevices({ device, threads }: LayersOptions): Promise<{ many: Device; one: Device }> {
  if (device === 'cuda') {
    const cuda = await openDevice('cuda');
    console.log(`${cuda.gpuMemory?.()[0]?.kind ?? device}, bfloat16, Node ${process.version}`);
    return { many: cuda, one: cuda };
  }
  console.log(machineText(describeMachine('cpu', threads)));
  return { many: await openDevice('cpu', { threads }), one: await openDevice('wasm', { threads }) };
}

async function runLayers(options: LayersOptions): Promise<void> {
  const { against } = options;
  const { many, one } = await openDevices(options);
  const tasks = [
    training(many, options),
    generating('read', many, options),
    generating('write', one, options),
  ];
  const letters = [against, ...options.letters.filter((letter) => letter !== against)];
  const rows = [['layers', ...options.tasks.flatMap((name) => [`${name}, tokens/s`, `of ${against}-`])]];
  const cells = new Map(letters.map((letter) => [letter, [`${letter}-`]]));
  for (const task of tasks.filter(({ name }) => options.tasks.includes(name))) {
    const runs = new Map<string, Awaited<ReturnType<Task['start']>>>();
    for (const letter of letters) runs.set(letter, await task.start(letter));
    const seconds = new Map(letters.map((letter): [string, number[]] => [letter, []]));
    for (const run of runs.values()) await run.round();
    for (let i = 0; i < options.rounds; i++) {
      for (const [letter, run] of runs) seconds.get(letter)!.push(await run.round());
    }
    for (const run of runs.values()) await run.dispose();
    const [reference] = seconds.values();
    for (const [letter, own] of seconds) {
      // Ratios are formed within a round, since the speed of the machine varies.
      const ratios = own.map((second, i) => reference![i]! / second);
      cells.get(letter)!.push(decimal(1 / quantile(own, 0.5)), `${quantile(ratios, 0.5).toFixed(2)} x`);
    }
  }
  await Promise.all([...new Set([many, one])].map((device) => device.dispose()));
  console.log(table([...rows, ...cells.values()]));
}

/** Adds the command `layers`. */
export function addLayersCommand(parent: Command): void {
  parent
    .command('layers')
    .description(
      'training, prefill and decoding of kinds of layers, in alternating rounds with a reference kind',
    )
    .option('--letters <list>', 'letters of layers, as in patterns', (text) => text.split(','), [
      'G',
      'K',
      'D',
      'V',
      'g',
    ])
    .option('--against <letter>', 'the reference kind, whose speed is 1', 'M')
    .addOption(new Option('--tasks <list>', `of ${TASKS}`).argParser(listOf(TASKS)).default(TASKS, 'all'))
    .option('--size <n>', 'hidden size', positive, 256)
    .option('--layers <n>', 'layers, each with an MLP', positive, 4)
    .option(
      '--heads <n>',
      'heads of delta nets and similar layers; by default enough to fill the hidden size',
      positive,
    )
    .option('--head-size <n>', 'size of those heads', positive, 64)
    .option('--state <n>', 'state size of Mamba-2', positive, 64)
    .option('--tokens <n>', 'of a sequence', positive, 256)
    .option('--batch <n>', 'sequences per training step', positive, 2)
    .option('--rounds <n>', 'alternating rounds', positive, 7)
    .option('--threads <n>', 'threads that compute', positive, 2)
    .addOption(
      new Option('--device <name>', 'the device; cpu decodes with the wasm kernels')
        .choices(['cpu', 'cuda'])
        .default('cpu'),
    )
    .action((options: LayersOptions) => runLayers(options));
}
