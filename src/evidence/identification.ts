/**
 * System identification: a linear time-invariant system learns a chain of springs and dampers (chain.ts) from a random force and the
 * positions of the masses. Its poles are compared with the true ones, for each form of its state matrix.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Device } from '../engine/index.js';
import { concat, fill, multiply, reshape, scalar, subtract, sum, type Tensor } from '../graph/index.js';
import { CHECKPOINT, defineModel, type Model, perceive, readWeights } from '../models/index.js';
import { linearSystem, ParameterRegistry, Random, type StateMatrix } from '../nn/index.js';
import { type Examples, elements, type Objective, TRAINING_DEFAULTS, train } from '../train/index.js';
import { type Complex, chainPoles, driven, eigenvalues, logarithm, MASSES, randomForce } from './chain.js';
import type { Finding } from './finding.js';
import { computedOn, markdownTable, partsOf, type Section } from './section.js';
import type { Work } from './work.js';

/** The state size: a position and a velocity for each mass. */
const SIZE = 2 * MASSES;
const FORMS: Readonly<Record<string, StateMatrix>> = {
  full: { kind: 'full' },
  'block-tridiagonal': { kind: 'block-tridiagonal', blockSize: 2 },
  diagonal: { kind: 'diagonal', initial: 'lin' },
};
const LENGTH = 128;
const TRAINING = { steps: 1500, batch: 16, learningRate: 1e-2 };
const HELD_OUT = 64;
const TRUE = chainPoles();

/** How well linear models recover a known system from its inputs and outputs. */
export const identification: Section = {
  name: 'identification',
  title: 'A machine identified',
  works: ({ quick }) =>
    (quick ? ['diagonal'] : Object.keys(FORMS)).map((form): Work => {
      const steps = quick ? 300 : TRAINING.steps;
      const settings = { form, state: SIZE, masses: MASSES, length: LENGTH, ...TRAINING, steps };
      const asks = () => (quick ? [1] : [1, 2, 3]).map((seed) => ({ of: `seed ${seed}`, settings, seed }));
      return {
        name: `identification/${form}`,
        asks,
        async run({ finding, device }) {
          for (const wanted of asks())
            await finding(wanted, () => identified(form, steps, wanted.seed, device));
        },
      };
    }),
  report(findings) {
    if (findings.length === 0) return undefined;
    const rows = findings.map((finding) => {
      const { numbers, seed } = finding;
      const { found, missed } = beside(numbers);
      return [
        partsOf(finding)[1]!,
        String(seed),
        numbers['error, of the variance']!.toExponential(1),
        `${found} of ${MASSES}`,
        missed.toPrecision(2),
      ];
    });
    const best = Object.keys(FORMS).flatMap((form) => bestOf(findings, form) ?? []);
    return {
      text: [
        `${MASSES} masses between two walls, with springs between them and a damper at each; a random force drives the first. A linear system with ${SIZE} numbers of state (a diagonal one: ${SIZE} for each place that it tells) sees forces and places of ${LENGTH} samples, from rest, and is trained to tell the places; error is the mean square on other forces, as a share of the variance. True poles: ${TRUE.map(told).join(', ')}, each with its conjugate. One counts as found where a learned pole lies within a tenth of its size. On ${computedOn(findings[0]!)}.`,
        markdownTable([
          ['A', 'seed', 'error', 'poles found', 'farthest true pole from a learned one'],
          ...rows,
        ]),
      ].join('\n\n'),
      plots: [
        {
          name: 'poles',
          title: 'Poles of the chain, true and learned (best seed)',
          kind: 'points',
          color: 'A',
          x: { title: 'real part' },
          y: { title: 'imaginary part, in radians a sample' },
          points: [
            ...best.flatMap((finding) =>
              polesIn(finding.numbers).map(({ re, im }) => ({ series: partsOf(finding)[1]!, x: re, y: im })),
            ),
            ...TRUE.map(({ re, im }) => ({ series: 'true', x: re, y: im })),
          ],
        },
      ],
    };
  },
};

function told({ re, im }: Complex): string {
  return `${re.toFixed(3)} + ${im.toFixed(3)} i`;
}

function bestOf(findings: readonly Finding[], form: string): Finding | undefined {
  const own = findings.filter((finding) => partsOf(finding)[1] === form);
  return own.sort((a, b) => a.numbers['error, of the variance']! - b.numbers['error, of the variance']!)[0];
}

/** The learned poles in a finding, without conjugates. */
function polesIn(numbers: Finding['numbers']): Complex[] {
  const count = Object.keys(numbers).filter((name) => name.endsWith(', real part')).length;
  return Array.from({ length: count }, (_, i) => ({
    re: numbers[`pole ${i + 1}, real part`]!,
    im: numbers[`pole ${i + 1}, imaginary part`]!,
  }));
}

/** The number of true poles with a learned pole nearby, and the largest distance of a true pole to its nearest learned one. */
function beside(numbers: Finding['numbers']): { found: number; missed: number } {
  const learned = polesIn(numbers);
  const distances = TRUE.map((pole) =>
    Math.min(...learned.map(({ re, im }) => Math.hypot(re - pole.re, im - pole.im))),
  );
  const found = TRUE.filter(({ re, im }, i) => distances[i]! < 0.1 * Math.hypot(re, im)).length;
  return { found, missed: Math.max(...distances) };
}

async function identified(
  form: string,
  steps: number,
  seed: number,
  device: Device,
): Promise<Finding['numbers']> {
  const { batch, learningRate } = TRAINING;
  const model = systemModel(FORMS[form]!);
  const folder = await mkdtemp(join(tmpdir(), 'heddle-identification-'));
  try {
    let error = Number.NaN;
    await train({
      model,
      data: () => ({
        objective: squaredErrors,
        training: drives(seed),
        validation: { ...drives(seed + 1000), count: HELD_OUT },
        identity: { machine: 'chain' },
      }),
      settings: {
        ...TRAINING_DEFAULTS,
        ...{ steps, batch, learningRate, seed, sequence: LENGTH, evaluateEvery: 0, saveEvery: 0 },
      },
      device,
      folder: join(folder, 'run'),
      onEvent: (event) => {
        if (event.event === 'evaluation') error = event.loss;
      },
    });
    const poles = await polesOf(model, join(folder, 'run', CHECKPOINT), device);
    const numbered = poles.flatMap(({ re, im }, i) => [
      [`pole ${i + 1}, real part`, re],
      [`pole ${i + 1}, imaginary part`, im],
    ]);
    return { 'error, of the variance': error, ...Object.fromEntries(numbered) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The linear system alone as a model from forces to positions, without norm or MLP. */
function systemModel(matrix: StateMatrix): Model {
  const system = linearSystem({
    hiddenSize: MASSES,
    matrix,
    stateSize: SIZE,
    discretization: 'zero-order hold',
  });
  return defineModel({
    modelType: 'linear-system',
    json: { model_type: 'linear-system' },
    vocabSize: 0,
    hiddenSize: MASSES,
    eosTokenIds: [],
    tieWordEmbeddings: false,
    names: { embeddings: 'embeddings', layers: 'layers', finalNorm: 'norm_f', head: 'head' },
    layers: [{ letters: 'I', mixer: system }],
    finalNorm: { epsilon: 1e-5 },
    modality: {
      kind: 'forces',
      about: 'reads a force, and says where masses are',
      unit: { name: 'steps', perPosition: 1 },
      inputs: [{ name: 'force', dtype: 'float32', shape: ['sequence'] }],
      state: [],
      // Each position gets the force as its input.
      enter: (_, { force }) => ({
        stream: concat(Array<Tensor>(MASSES).fill(reshape(force!, [...force!.shape, 1])), -1),
        state: {},
        kept: {},
      }),
      leave: (_, hidden) => ({ hidden }),
    },
  });
}

/** Squared errors of the last layer's output, before any norm. */
const squaredErrors: Objective = {
  inputs: [
    { name: 'force', dtype: 'float32', shape: [LENGTH] },
    { name: 'places', dtype: 'float32', shape: [LENGTH, MASSES] },
  ],
  loss(model, registry, { force, places }) {
    const { residuals } = perceive(model, registry, { force: force! }, scalar(0, 'int64'));
    const missed = subtract(residuals.at(-1)!, places!);
    return { total: sum(multiply(missed, missed)), count: elements(places!.shape) };
  },
};

/** Forces and positions by example; the positions are scaled by their overall deviation. */
function drives(seed: number): Examples {
  return {
    take(first, count) {
      const force = new Float32Array(count * LENGTH);
      const places = new Float32Array(count * LENGTH * MASSES);
      for (let i = 0; i < count; i++) {
        const own = randomForce(Random.at(seed, first + i), LENGTH);
        force.set(own, i * LENGTH);
        places.set(driven(own), i * LENGTH * MASSES);
      }
      return { force, places: places.map((value) => value / DEVIATION) };
    },
  };
}

const DEVIATION = (() => {
  const places = driven(randomForce(new Random(0), 20_000));
  return Math.sqrt(places.reduce((total, value) => total + value ** 2, 0) / places.length);
})();

/** The learned poles in continuous time with non-negative imaginary part. */
async function polesOf(model: Model, folder: string, device: Device): Promise<Complex[]> {
  const registry = new ParameterRegistry();
  let transition: Tensor | undefined;
  perceive(model, registry, { force: fill([1, 1], 0) }, scalar(0, 'int64'), {
    observe: (_, sight) => {
      if (sight.kind === 'state system') transition = sight.transition;
      if (sight.kind === 'channel system') transition = sight.operands.transition;
    },
  });
  const weights = await readWeights(folder, model);
  const program = await device.compile({ inputs: [], outputs: { transition: transition! }, weights });
  const { data, dims } = (await program.run({})).transition!;
  await program.dispose();
  const values = [...(data as Float32Array)];
  const poles =
    dims.length === 2
      ? eigenvalues(Array.from({ length: SIZE }, (_, i) => values.slice(i * SIZE, (i + 1) * SIZE)))
      : Array.from({ length: values.length / 2 }, (_, i) => ({
          re: values[i]!,
          im: values[i + values.length / 2]!,
        }));
  return poles
    .map(logarithm)
    .flatMap(({ re, im }) => (dims.length === 2 && im < 0 ? [] : [{ re, im: Math.abs(im) }]));
}
