/** Makes WAV files of all codings for tests. */
export interface WavForm {
  readonly tag?: number;
  readonly bits?: number;
  readonly rate?: number;
  readonly channels?: number;
}

/** Makes a WAV file of samples from -1 to 1, with interleaved channels. */
export function wavOf(samples: readonly number[], form: WavForm = {}): Buffer {
  const { tag = 1, bits = 16, rate = 8000, channels = 1 } = form;
  const data = Buffer.alloc((samples.length * bits) / 8);
  for (const [i, sample] of samples.entries()) {
    const at = (i * bits) / 8;
    if (tag === 3) bits === 32 ? data.writeFloatLE(sample, at) : data.writeDoubleLE(sample, at);
    else if (bits === 8) data[at] = Math.round(128 + 127 * sample);
    else data.writeIntLE(Math.round(sample * (2 ** (bits - 1) - 1)), at, bits / 8);
  }
  const format = Buffer.alloc(16);
  format.writeUInt16LE(tag, 0);
  format.writeUInt16LE(channels, 2);
  format.writeUInt32LE(rate, 4);
  format.writeUInt32LE((rate * channels * bits) / 8, 8);
  format.writeUInt16LE((channels * bits) / 8, 12);
  format.writeUInt16LE(bits, 14);
  // An unknown chunk of odd size in between tests that readers skip it and its padding.
  return riff([
    ['fmt ', format],
    ['LIST', Buffer.from('abc')],
    ['data', data],
  ]);
}

/** A WAVE file of these chunks, each padded to an even number of bytes. */
export function riff(chunks: readonly (readonly [name: string, data: Buffer])[]): Buffer {
  const body = chunks.flatMap(([name, data]) => {
    const size = Buffer.alloc(4);
    size.writeUInt32LE(data.length);
    return [Buffer.from(name, 'latin1'), size, data, Buffer.alloc(data.length % 2)];
  });
  const size = Buffer.alloc(4);
  size.writeUInt32LE(4 + body.reduce((sum, part) => sum + part.length, 0));
  return Buffer.concat([Buffer.from('RIFF'), size, Buffer.from('WAVE'), ...body]);
}
