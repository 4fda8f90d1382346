/**
 * Parses the names of an adapter's tensors, from any version of PEFT or from a module's `state_dict`.
 *
 *   base_model.model.<module>.lora_A.weight                      A of a low-rank adapter; also lora_B
 *   base_model.model.<module>.lora_magnitude_vector              the magnitudes of rows (DoRA)
 *   base_model.model.<module>.lora_embedding_A                   A of an adapter of an embedding; also _B
 *   base_model.model.<module>.token_adapter.trainable_tokens_delta   trained rows of an embedding
 *   base_model.model.<parameter>                                 a parameter that was trained fully
 *
 * In a `state_dict` the names also contain the adapter's name (`lora_A.default.weight`, `modules_to_save.default.weight`), and the base
 * weights are included (`base_layer.weight`, `original_module.weight`).
 */

/** The role of a tensor, its module or parameter, and the adapter's name if it is part of the tensor's name. */
export type AdapterTensor = { readonly adapter: string | undefined } & (
  | { readonly kind: 'A' | 'B' | 'embedding A' | 'embedding B'; readonly module: string }
  | { readonly kind: 'magnitudes' | 'token rows'; readonly module: string }
  | { readonly kind: 'whole'; readonly parameter: string }
  | { readonly kind: 'unchanged' }
);

const PREFIX = /^base_model\.model\./;

/** The suffixes of module names, with the adapter's name as `adapter`. */
const FORMS = [
  [/\.lora_A(?:\.(?<adapter>[^.]+))?\.weight$/, 'A'],
  [/\.lora_B(?:\.(?<adapter>[^.]+))?\.weight$/, 'B'],
  [/\.lora_embedding_A(?:\.(?<adapter>[^.]+))?$/, 'embedding A'],
  [/\.lora_embedding_B(?:\.(?<adapter>[^.]+))?$/, 'embedding B'],
  [/\.lora_magnitude_vector(?:\.(?<adapter>(?!weight$)[^.]+))?(?:\.weight)?$/, 'magnitudes'],
  [/\.token_adapter\.trainable_tokens_delta(?:\.(?<adapter>[^.]+))?$/, 'token rows'],
] as const;

/** Parses the name of a tensor. */
export function adapterTensor(name: string): AdapterTensor {
  const own = name.replace(PREFIX, '');
  for (const [form, kind] of FORMS) {
    const match = form.exec(own);
    if (match) return { kind, module: own.slice(0, match.index), adapter: match.groups?.adapter };
  }
  if (/\.(?:base_layer|original_module|token_adapter)\./.test(own)) {
    return { kind: 'unchanged', adapter: undefined };
  }
  const saved = /\.modules_to_save(?:\.(?<adapter>[^.]+))?(?<parameter>\.(?:weight|bias))$/.exec(own);
  if (!saved) return { kind: 'whole', parameter: own, adapter: undefined };
  const { adapter, parameter } = saved.groups!;
  return { kind: 'whole', parameter: own.slice(0, saved.index) + parameter, adapter };
}
