/**
 * Speech: digits spoken by espeak-ng in many voices, at the telephone rate of 8 kHz; tested on unseen voices and on
 * the recordings of a person from asterisk-core-sounds.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataError } from '../errors.js';
import type { SoundsConfig } from '../models/index.js';
import { Random } from '../nn/index.js';
import { readSound, type Sound } from '../signals/index.js';
import { evaluateExamples, type Labelled, soundData, TRAINING_DEFAULTS } from '../train/index.js';
import { ACCURACY, expectOwnLength, type Task, type Trained } from './task.js';

const RATE = 8000;
/** The least number of samples after silence is trimmed. */
const LEAST = 128;

const WORDS = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'];
const ACCENTS = ['en-us', 'en-gb', 'en-gb-scotland', 'en-gb-x-rp', 'en-gb-x-gbclan', 'en-029'];
const LEARNED = ['m1', 'm2', 'm3', 'm5', 'm6', 'f1', 'f2', 'f4'];
const UNHEARD = ['m4', 'm7', 'f3'];
const RECORDINGS = '/usr/share/asterisk/sounds/en_US_f_Allison/digits';

/** How a voice is encoded: as frames of band energies, or as raw samples. */
interface Hearing {
  readonly name: string;
  readonly as: string;
  readonly reads: Pick<SoundsConfig, 'frame' | 'hop' | 'features' | 'mels'>;
  /** Frames of an example, together more than a second. */
  readonly positions: number;
}

/** Classification of digits from their spectra. */
export const spokenDigits: Task = speech({
  name: 'spoken-digits',
  as: 'energies of 32 bands, every 16 ms',
  reads: { frame: 256, hop: 128, features: 'log-mel', mels: 32 },
  positions: 64,
});

/** Classification of digits from raw samples. */
export const spokenDigitsRaw: Task = speech({
  name: 'spoken-digits-raw',
  as: '32 samples at a time, as they are',
  reads: { frame: 64, hop: 32, features: 'waveform', mels: 32 },
  positions: 256,
});

function speech({ name, as, reads, positions }: Hearing): Task {
  return {
    name,
    about: `which digit a voice says that was not learned from, at 8 kHz: ${as}`,
    source:
      "espeak-ng's voices, and the recordings of asterisk-core-sounds-en-wav; after Warden, 2018, arXiv 1804.03209",
    measure: ACCURACY,
    chance: 0.1,
    lengths: { train: positions, test: [positions], unit: 'positions' },
    async prepare(length) {
      expectOwnLength(name, positions, length);
      const learned = await spoken(LEARNED, 3);
      const unheard = await spoken(UNHEARD, 1);
      const order = [...new Random(1).permutation(learned.length)].map((i) => learned[i]!);
      const recorded = await recordings();
      return {
        reads: { kind: 'sounds', rate: RATE, ...reads, classes: WORDS },
        sequence: positions,
        data: soundData(order.slice(100), order.slice(0, 100)),
        async *score(trained) {
          const words = `${unheard.length} words of ${UNHEARD.length} other voices`;
          yield { of: words, ...(await soundsTold(trained, unheard, positions)) };
          if (recorded.length === 0) return;
          yield { of: `${recorded.length} recordings`, ...(await soundsTold(trained, recorded, positions)) };
        },
      };
    },
  };
}

/** The accuracy of classifying sounds, with `positions` frames each. */
export async function soundsTold(
  { model, weights, device }: Trained,
  sounds: readonly Labelled<Sound>[],
  positions: number,
): Promise<{ value: number; answers: number }> {
  const settings = { ...TRAINING_DEFAULTS, sequence: positions };
  const { objective, validation } = soundData(sounds, sounds)(model, settings);
  const { measures, tokens } = await evaluateExamples(model, weights, objective, validation, 32, device);
  return { value: measures!.accuracy!, answers: tokens };
}

/** Synthesizes all digits with these voices in all accents, `times` times each with varying speed and pitch. Throws `DataError` without espeak-ng. */
async function spoken(voices: readonly string[], times: number): Promise<Labelled<Sound>[]> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-speech-'));
  const random = new Random(voices.length);
  const sounds: Labelled<Sound>[] = [];
  try {
    for (const accent of ACCENTS) {
      for (const voice of voices) {
        for (const [label, word] of WORDS.entries()) {
          for (let i = 0; i < times; i++) {
            const path = join(folder, 'word.wav');
            const [speed, pitch] = [130 + random.below(70), 35 + random.below(35)];
            const words = [
              '-v',
              `${accent}+${voice}`,
              '-s',
              String(speed),
              '-p',
              String(pitch),
              '-w',
              path,
              word,
            ];
            const { error, status } = spawnSync('espeak-ng', words);
            if (error || status !== 0)
              throw new DataError('digits are spoken by espeak-ng; run: apt-get install espeak-ng', {
                cause: error,
              });
            sounds.push({ example: telephone(await readSound(path)), label });
          }
        }
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return sounds;
}

/** The recordings of a person, if they are installed. */
async function recordings(): Promise<Labelled<Sound>[]> {
  const read = await Promise.allSettled(WORDS.map((_, label) => readSound(join(RECORDINGS, `${label}.wav`))));
  return read.flatMap((result, label) =>
    result.status === 'fulfilled' ? [{ example: telephone(result.value), label }] : [],
  );
}

/** Resamples to 8 kHz, trims silence, and normalizes the loudness. */
export function telephone({ rate, samples }: Sound): Sound {
  const step = rate / RATE;
  const heard = Float32Array.from({ length: Math.floor(samples.length / step) }, (_, i) => {
    // The mean over the interval is a low-pass filter, since frequencies above 4 kHz would alias.
    const [from, to] = [Math.floor(i * step), Math.max(Math.floor(i * step) + 1, Math.floor((i + 1) * step))];
    let sum = 0;
    for (let at = from; at < to; at++) sum += samples[at]!;
    return sum / (to - from);
  });
  const peak = heard.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1e-6);
  const isLoud = (sample: number): boolean => Math.abs(sample) > 0.02 * peak;
  const first = Math.max(0, heard.findIndex(isLoud));
  let last = heard.length;
  while (last > 0 && !isLoud(heard[last - 1]!)) last--;
  return {
    rate: RATE,
    samples: heard.slice(first, Math.max(last, first + LEAST)).map((sample) => (0.5 * sample) / peak),
  };
}
