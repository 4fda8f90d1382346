/** Programs for tests, which are fed whatever their outputs depend on. */
import { inputName, type Tensor, topologicalOrder } from '../../graph/index.js';
import type { Program } from '../program.js';

/** The program with its inputs declared: all that it depends on but weights and states, and `others`, which serve for their sizes. */
export function withInputs(program: Omit<Program, 'inputs'>, others: readonly Tensor[] = []): Program {
  const { outputs, state = [], lengths, weights } = program;
  const own = new Set([...state.map(({ before }) => before), ...(lengths ? [lengths] : [])]);
  const roots = [...others, ...Object.values(outputs), ...state.map(({ after }) => after)];
  const inputs = topologicalOrder(roots)
    .map((node) => node.outputs[0]!)
    .filter((tensor) => {
      const name = inputName(tensor);
      return name !== undefined && !own.has(tensor) && !weights?.has(name);
    });
  return { ...program, inputs };
}

/** Those of the feeds that a program has inputs for. */
export function only<T>({ inputs }: Program, feeds: Readonly<Record<string, T>>): Record<string, T> {
  const names = new Set(inputs.map((tensor) => inputName(tensor)));
  return Object.fromEntries(Object.entries(feeds).filter(([name]) => names.has(name)));
}
