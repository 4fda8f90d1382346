/** Documents that are sent to the library, one after the other. */
import { signal } from '@preact/signals';
import type { DocumentEntry } from '../../../src/archive/entries.js';
import { sendFile } from '../api.js';
import { documents, known, open } from './library.js';

/** One of them. `share` of its bytes is sent. */
export interface Upload {
  readonly id: number;
  readonly name: string;
  readonly state: 'waiting' | 'sending' | 'added' | 'known' | 'failed';
  readonly share: number;
  readonly why?: string;
  readonly content?: string;
}

/** In the order in which they were chosen. */
export const uploads = signal<readonly Upload[]>([]);

let last: Promise<void> = Promise.resolve();
let count = 0;

/** Sends files when those before them are sent. What goes wrong with one is told beside it. */
export function upload(files: Iterable<File>): void {
  for (const file of files) {
    const id = count++;
    uploads.value = [...uploads.value, { id, name: file.name, state: 'waiting', share: 0 }];
    last = last.then(() => sendOne(id, file));
  }
}

/** Forgets those of a document that was removed. */
export function forgetUploadsOf(content: string): void {
  uploads.value = uploads.value.filter((each) => each.content !== content);
}

/** Forgets those that are done. */
export function clearUploads(): void {
  uploads.value = uploads.value.filter(({ state }) => state === 'waiting' || state === 'sending');
}

async function sendOne(id: number, file: File): Promise<void> {
  const change = (part: Partial<Upload>): void => {
    uploads.value = uploads.value.map((each) => (each.id === id ? { ...each, ...part } : each));
  };
  change({ state: 'sending' });
  try {
    const { status, answer } = await sendFile<DocumentEntry>(
      `/v1/archive/documents?name=${encodeURIComponent(file.name)}`,
      file,
      (share) => change({ share }),
    );
    change({ state: status === 201 ? 'added' : 'known', share: 1, content: answer.content });
    if (known(answer.content)) return;
    await open(answer.content);
    const all = [...documents.value, known(answer.content)!];
    documents.value = all.sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    change({ state: 'failed', why: (error as Error).message });
  }
}
