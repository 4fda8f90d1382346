/** The text of a config.json: what is a fraction to transformers stays one, and all else stays as it is. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { withDtype, withFractions } from './export-config.js';
import { formatConfig, parseConfigText } from './index.js';
import { readReference, referenceNames } from './testing/reference.js';

/** As text, the numbers that transformers' configs of these families declare as float and whose values may be whole. */
const STRICT = {
  falcon_h1:
    /"(?:(?:lm_head|embedding|key|attention_in|attention_out|ssm_in|ssm_out)_multiplier|(?:mlp|ssm)_multipliers|time_step_limit)": (?:\[[^\]]*\]|[^,\n]*)/g,
  recurrent_gemma: /"logits_soft_cap": [^,\n]*/g,
  olmo_hybrid: /"linear_a_log_(?:min|max)": [^,\n]*/g,
  bamba: /"(?:z_loss_coefficient": [^,\n]*|time_step_limit": \[[^\]]*\])/g,
  nemotron_h: /"time_step_limit": \[[^\]]*\]/g,
  granitemoehybrid: /"time_step_limit": \[[^\]]*\]/g,
};

async function configText(name: string): Promise<string> {
  const { folder } = await readReference('hf', name);
  return readFileSync(join(folder, 'config.json'), 'utf8');
}

test.each(referenceNames('hf'))('what transformers wrote for %s stays as it is', async (name) => {
  const text = await configText(name);
  expect(withFractions(text)).toBe(text);
});

test.each(Object.entries(STRICT))('what Heddle writes for %s has its fractions', async (name, strict) => {
  const text = await configText(name);
  const rewritten = formatConfig(parseConfigText(text, 'config.json'));
  const expected = text.match(strict)!;
  expect(rewritten.match(strict)).toEqual(expected);
  expect(parseConfigText(rewritten, name)).toEqual(parseConfigText(text, name));
});

test('only whole numbers are written otherwise', () => {
  const text =
    '{"key_multiplier": -3, "ssm_multipliers": [1, 2.5, 1e-05, 7], "time_step_rank": 4, "mamba_expand": 2}';
  expect(withFractions(text)).toBe(
    '{"key_multiplier": -3.0, "ssm_multipliers": [1.0, 2.5, 1e-05, 7.0], "time_step_rank": 4, "mamba_expand": 2}',
  );
});

test('a dtype is said wherever one was', () => {
  const text =
    '{"dtype": "float32", "text_config": {"torch_dtype" : "float32"}, "mamba_ssm_dtype": "float32"}';
  expect(withDtype(text, 'BF16')).toBe(
    '{"dtype": "bfloat16", "text_config": {"torch_dtype" : "bfloat16"}, "mamba_ssm_dtype": "float32"}',
  );
});
