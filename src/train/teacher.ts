/**
 * Learning from a model that knows already (Hinton et al., 2015, arXiv 1503.02531): beside being right, a model shall find likely what its
 * teacher finds likely, and, if asked, have the teacher's hidden states on the way there, which a hybrid that was converted from it can,
 * since its layers stand in the places of the teacher's.
 */
import type { Weight } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import {
  add,
  detach,
  divide,
  exp,
  max as largest,
  log,
  mean,
  multiply,
  scope,
  softmax,
  subtract,
  sum,
  type Tensor,
} from '../graph/index.js';
import { locateWeights, type Model, readModel } from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import type { BatchLoss, TrainingData } from './data.js';
import type { TeacherInput } from './input.js';

/** A model from which another one learns by distillation. */
export interface Teacher {
  readonly model: Model;
  readonly weights: ReadonlyMap<string, Weight>;
  /** What the cross entropy to its distribution counts, against 1 for that to the right answers. */
  readonly weight: number;
  /** What the distance of hidden states counts: squared, as a share of the teacher's. */
  readonly match: number;
}

/** Finds a teacher, whose weights stay in their files. Throws `CheckpointError` where there is none. */
export async function readTeacher({ folder, ...counts }: TeacherInput): Promise<Teacher> {
  const model = await readModel(folder);
  return { model, weights: await locateWeights(folder, model), ...counts };
}

/** Before the names of a teacher's parameters in a training program. */
const TEACHER = 'teacher/';

/** The weights of a teacher as the program of its pupil asks for them. */
export function teacherWeights({ weights }: Teacher): Map<string, Weight> {
  return new Map([...weights].map(([name, weight]) => [TEACHER + name, weight]));
}

/**
 * The same data with a teacher: evaluation stays as it is. Throws `ConfigError` where teacher and pupil read other tokens, or what they are
 * to say is no token.
 */
export function taught(data: TrainingData, teacher: Teacher): TrainingData {
  const { objective } = data;
  if (objective.memory) {
    throw new ConfigError(
      'a teacher reads each row by itself, and here rows go on from each other: use --documents pack',
    );
  }
  return {
    ...data,
    objective: {
      ...objective,
      loss(model, registry, inputs) {
        if (model.vocabSize !== teacher.model.vocabSize) {
          throw new ConfigError(
            `the teacher has ${teacher.model.vocabSize} tokens, and the model ${model.vocabSize}: they need the same tokenizer`,
          );
        }
        const own = objective.loss(model, registry, inputs);
        // Its layers have paths of their own: what is said of the pupil's layers by letter is not said of them.
        const heard = scope('teacher', () =>
          objective.loss(teacher.model, new ParameterRegistry(new Set(), TEACHER), inputs),
        );
        registry.penalties.push(multiply(distributionLoss(own, heard), teacher.weight));
        if (teacher.match > 0) registry.penalties.push(multiply(distance(own, heard), teacher.match));
        return own;
      },
    },
  };
}

function insideOf({ inside }: BatchLoss): NonNullable<BatchLoss['inside']> {
  if (!inside) throw new ConfigError('a teacher says tokens, and this is no text: leave it out');
  return inside;
}

/** The mean cross entropy of a model's distributions to those of its teacher, in nats. */
function distributionLoss(own: BatchLoss, heard: BatchLoss): Tensor {
  const { logits } = insideOf(own);
  const likely = detach(softmax(insideOf(heard).logits));
  const shifted = subtract(logits, detach(largest(logits, -1, { keepDims: true })));
  const total = log(sum(exp(shifted), -1));
  const losses = subtract(total, sum(multiply(likely, shifted), -1));
  const { counted } = insideOf(own);
  return divide(sum(counted ? multiply(losses, counted) : losses), own.count);
}

/** The mean squared distance of hidden states behind layers in the same places, each as a share of the teacher's mean square. */
function distance(own: BatchLoss, heard: BatchLoss): Tensor {
  const [mine, others] = [own, heard].map((loss) => insideOf(loss).residuals.slice(1)) as [
    Tensor[],
    Tensor[],
  ];
  const each = mine.length / others.length;
  if (!Number.isInteger(each) || mine[0]!.shape[2] !== others[0]!.shape[2]) {
    throw new ConfigError(
      `hidden states of ${mine.length} layers of ${mine[0]!.shape[2]} numbers cannot follow those of ${others.length} layers of ${others[0]!.shape[2]}: match them with a model that was converted from the teacher`,
    );
  }
  const shares = others.map((theirs, i) => {
    const wanted = detach(theirs);
    const missed = subtract(mine[(i + 1) * each - 1]!, wanted);
    return divide(mean(multiply(missed, missed), [0, 1, 2]), mean(multiply(wanted, wanted), [0, 1, 2]));
  });
  return divide(
    shares.reduce((a, b) => add(a, b)),
    shares.length,
  );
}
