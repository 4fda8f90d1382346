/** What Prometheus is told. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { EngineFigures } from './engine/protocol.js';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export interface GaugeSources {
  /** Answers that are being written, and requests that wait to be. */
  slots(): { inUse: number; waiting: number };
  engine(): Promise<EngineFigures>;
}

export class Metrics {
  readonly registry = new Registry();
  readonly requests: Counter<'route' | 'status'>;
  readonly seconds: Histogram<'route'>;
  readonly firstToken: Histogram<'model'>;
  readonly betweenTokens: Histogram<'model'>;
  readonly tokens: Counter<'model' | 'kind'>;

  constructor(sources: GaugeSources) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.requests = new Counter({
      name: 'heddle_requests_total',
      help: 'Requests that were answered.',
      labelNames: ['route', 'status'],
      registers,
    });
    this.seconds = new Histogram({
      name: 'heddle_request_seconds',
      help: 'From a request to the end of its answer.',
      labelNames: ['route'],
      buckets: SECONDS,
      registers,
    });
    this.firstToken = new Histogram({
      name: 'heddle_first_token_seconds',
      help: 'From a request to the first text of its answer.',
      labelNames: ['model'],
      buckets: SECONDS,
      registers,
    });
    this.betweenTokens = new Histogram({
      name: 'heddle_between_tokens_seconds',
      help: 'Between two pieces of an answer.',
      labelNames: ['model'],
      buckets: SECONDS,
      registers,
    });
    this.tokens = new Counter({
      name: 'heddle_tokens_total',
      help: 'Tokens of prompts that were read, those that were known, and those that were written.',
      labelNames: ['model', 'kind'],
      registers,
    });
    new Gauge({
      name: 'heddle_answers_running',
      help: 'Answers that are being written.',
      registers,
      collect() {
        this.set(sources.slots().inUse);
      },
    });
    new Gauge({
      name: 'heddle_requests_waiting',
      help: 'Requests that wait for their turn.',
      registers,
      collect() {
        this.set(sources.slots().waiting);
      },
    });
    const sequences = new Gauge({
      name: 'heddle_sequences',
      help: 'Sequences that the engine holds for requests.',
      registers,
    });
    const cacheStates = new Gauge({
      name: 'heddle_cache_states',
      help: 'States of what was read before that are in memory.',
      registers,
    });
    new Gauge({
      name: 'heddle_cache_bytes',
      help: 'Bytes that they take.',
      registers,
      async collect() {
        const figures = await sources.engine();
        this.set(figures.cacheBytes);
        cacheStates.set(figures.cacheStates);
        sequences.set(figures.sequences);
      },
    });
  }
}
