/** The generation loop: sample a token, yield its text, append it to the sequence. */
import { nextTurn } from '#platform';
import type { GeneratedPiece, GenerationSettings, StopReason } from './generation.js';
import { Constraint, schemaNode } from './grammar/index.js';
import type { LanguageModel } from './language-model.js';
import { logprobsOf } from './logprobs.js';
import { Sampler } from './sampler.js';
import type { Sequence } from './sequence.js';
import { StopStrings } from './stop.js';

/** Stands for the logits of tokens that the device sampled, which are not used. */
const NO_LOGITS = new Float32Array();

/**
 * Continues the sequence until the end of the text, a stop string or token, or `maxTokens`, and returns which of them it was. Throws the
 * signal's reason after an abort.
 */
export async function* writeTokens(
  sequence: Sequence,
  language: LanguageModel,
  settings: GenerationSettings,
): AsyncGenerator<GeneratedPiece, StopReason> {
  // Tokens that an earlier call generated ahead, but did not return, were sampled with that call's options.
  await sequence.adopt();
  const { tokenizer } = language;
  const ends = new Set([...language.ends, ...settings.stopTokens]);
  const endsAlone = [...ends];
  const seed = settings.seed ?? Math.floor(Math.random() * 2 ** 32);
  const { schema } = settings;
  const format =
    schema === undefined ? [] : [new Constraint(schemaNode(schema), language.tokenTree(), endsAlone)];
  for (const each of format) each.expectRoom(settings.maxTokens);
  const sampler = new Sampler(
    { ...settings, steering: [...settings.steering, ...format], seed },
    sequence.tokens,
  );
  const text = tokenizer.stream();
  const stops = new StopStrings(settings.stop);
  const isPlain = settings.stop.length === 0 && settings.logprobs === undefined;
  let reason: StopReason = 'length';
  for (let count = 0; count < settings.maxTokens && !stops.stopped && reason !== 'token'; count++) {
    await checkSignal(settings.signal);
    const left = settings.maxTokens - count;
    if (isPlain) await sequence.writeAhead(sampler, left, endsAlone);
    const ahead = sequence.nextAhead();
    const logits = ahead === undefined ? await sequence.settle() : NO_LOGITS;
    const id = ahead ?? sampler.choose(logits, left);
    if (ends.has(id)) {
      reason = 'token';
      break;
    }
    if (sampler.accept(id)) reason = 'token';
    const told =
      settings.logprobs === undefined ? {} : { logprobs: logprobsOf(logits, id, settings.logprobs) };
    try {
      yield { id, text: stops.push(text.push(id)), ...told };
    } finally {
      // Also if the caller stops iterating: the token was yielded, so it belongs to the sequence.
      sequence.append(id);
    }
  }
  sequence.endAhead();
  const rest = stops.push(text.end()) + stops.end();
  if (rest !== '') yield { id: undefined, text: rest };
  return stops.stopped ? 'string' : reason;
}

/**
 * Throws the signal's reason after an abort. The engine computes on this thread, so pending timers and events, which may abort it, run first.
 */
export async function checkSignal(signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return;
  await nextTurn();
  signal.throwIfAborted();
}
