/** The metrics of `GET /metrics`. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { EngineFigures } from './engine/protocol.js';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Sources of gauges, which are read when metrics are requested. */
export interface GaugeSources {
  engine(): Promise<EngineFigures>;
}

/** The metrics of the server in Prometheus' format. */
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
    const gauge = (name: string, help: string, value: (figures: EngineFigures) => number): void => {
      new Gauge({
        name,
        help,
        registers,
        async collect() {
          this.set(value(await sources.engine()));
        },
      });
    };
    gauge('heddle_answers_running', 'Answers that are being written.', ({ running }) => running);
    gauge('heddle_requests_waiting', 'Requests that wait for their turn.', ({ waiting }) => waiting);
    gauge('heddle_sequences', 'Sequences that the engine holds for requests.', ({ sequences }) => sequences);
    gauge(
      'heddle_cache_states',
      'States of what was read before that are in memory.',
      ({ cacheStates }) => cacheStates,
    );
    gauge('heddle_cache_bytes', 'Bytes that they take.', ({ cacheBytes }) => cacheBytes);
  }
}
