/**
 * Distillation (Hinton et al., 2015, arXiv 1503.02531): in addition to the data, the student learns the teacher's next-token distributions and,
 * optionally, its hidden states, which is possible for a hybrid converted from the teacher, since their layers correspond.
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

/** The teacher of a distillation. */
export interface Teacher {
  readonly model: Model;
  readonly weights: ReadonlyMap<string, Weight>;
  /** The weight of the cross entropy to the teacher's distribution, relative to that to the data. */
  readonly weight: number;
  /** The weight of the squared distance of hidden states, relative to the teacher's mean square. */
  readonly match: number;
}

/** Opens a teacher, whose weights stay in their files. Throws `CheckpointError` if there is none. */
export async function readTeacher({ folder, ...counts }: TeacherInput): Promise<Teacher> {
  const model = await readModel(folder);
  return { model, weights: await locateWeights(folder, model), ...counts };
}

/** The prefix of the teacher's parameters in a training program. */
const TEACHER = 'teacher/';

/** The teacher's weights under their names in the training program. */
export function teacherWeights({ weights }: Teacher): Map<string, Weight> {
  return new Map([...weights].map(([name, weight]) => [TEACHER + name, weight]));
}

/**
 * Adds a teacher to the training data; evaluation is unchanged. Throws `ConfigError` if teacher and student have different tokens, or if the
 * targets are not tokens.
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
        // The teacher's layers have separate paths, so that settings by letter do not apply to them.
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

/** The mean squared distance of hidden states after corresponding layers, relative to the teacher's mean square. */
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
