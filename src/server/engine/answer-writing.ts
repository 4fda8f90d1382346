/** Generates an answer: its length limit, its sampling options, and the events that the server streams. */
import { Constraint, type Node } from '../../generate/grammar/index.js';
import {
  END_OF_PARAGRAPH,
  type GenerateOptions,
  type Session,
  type Steering,
  type StopReason,
} from '../../generate/index.js';
import { AnswerReader, type ThoughtForm } from '../../text/index.js';
import { ContextError } from '../errors.js';
import { HeldTokens } from './held-tokens.js';
import { chosenLogprob, describer } from './logprobs.js';
import type { GenerateEvent, GenerateRequest } from './protocol.js';
import type { ServedModel } from './served-model.js';

/** The length limit of an answer whose request has none, in tokens. */
const DEFAULT_ANSWER = 4096;

/** A request whose answers are generated: `thinking` as in `PreparedPrompt`. */
type WritingRequest = GenerateRequest & { maxTokens: number; thinking: ThoughtForm | undefined };

/** Generates one of the answers of a request (`choice` counts them), as the events `piece` and, last, `end`. */
export async function* writeAnswer(
  served: ServedModel,
  session: Session,
  choice: number,
  request: WritingRequest,
  steering: readonly Steering[],
): AsyncGenerator<GenerateEvent> {
  const pieces = session.generate({ ...textOptions(served, request, choice), steering });
  const describe = describer(served.language);
  const told = new HeldTokens(served.language.tokenizer.stream());
  const { calls, thinking } = request;
  const reader = calls?.single ? new AnswerReader({ ...calls, form: served.info.form, thinking }) : undefined;
  let writtenTokens = 0;
  let next = await pieces.next();
  try {
    for (; !next.done; next = await pieces.next()) {
      const { id, text, logprobs } = next.value;
      if (id !== undefined) writtenTokens++;
      const known =
        request.logprobs === undefined
          ? []
          : logprobs
            ? told.push(chosenLogprob(id!, logprobs, describe), text)
            : told.give(text);
      yield { kind: 'piece', choice, text, ...(known.length > 0 && { logprobs: known }) };
      reader?.push(text);
      if (reader?.isOver) {
        next = { done: true, value: 'token' };
        break;
      }
    }
    const rest = next.value === 'string' ? [] : told.rest();
    if (rest.length > 0) yield { kind: 'piece', choice, text: '', logprobs: rest };
  } finally {
    await pieces.return('length');
  }
  yield { kind: 'end', choice, reason: next.value as StopReason, writtenTokens };
}

/** The tokens that an answer may have: as many as are `wanted` and fit into the context. Throws `ContextError` if none fit. */
export function answerLength(wanted = DEFAULT_ANSWER, prompt: number, context: number): number {
  const room = context - prompt;
  if (room > 0 || wanted === 0) return Math.min(room, wanted);
  throw new ContextError(
    `the prompt has ${prompt} tokens, and the context holds ${context}: nothing can be written behind it, shorten it`,
  );
}

/** All tokens that end an answer. */
function endsOf({ ends, language }: ServedModel): number[] {
  return [...new Set([...ends, ...language.ends])];
}

function textOptions(
  { sampling, info, ends }: ServedModel,
  request: GenerateRequest & { maxTokens: number },
  choice: number,
): GenerateOptions {
  const { prompt, maxTokens, seed, stop, bias = [], logprobs } = request;
  // A model without a chat template never ends its turn.
  const ownStop = prompt.kind === 'messages' && !info.chat ? [END_OF_PARAGRAPH] : [];
  return {
    maxTokens,
    temperature: request.temperature ?? sampling.temperature,
    topP: request.topP ?? sampling.topP,
    topK: request.topK ?? sampling.topK,
    minP: request.minP ?? sampling.minP,
    repetitionPenalty: request.repetitionPenalty ?? sampling.repetitionPenalty,
    presencePenalty: request.presencePenalty ?? sampling.presencePenalty,
    frequencyPenalty: request.frequencyPenalty ?? sampling.frequencyPenalty,
    seed: seed + choice,
    stop: [...stop, ...ownStop],
    stopTokens: ends,
    bias: new Map(bias),
    ...(logprobs !== undefined && { logprobs }),
  };
}

/** What constrains the sampler to a grammar; nothing without one. */
export function steeringOf(served: ServedModel, grammar: Node | undefined): Steering[] {
  return grammar
    ? [new Constraint(grammar, served.language.tokenTree(served.info.form), endsOf(served))]
    : [];
}
