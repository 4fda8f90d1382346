/**
 * The names of an adapter's tensors, as PEFT's versions and those who save a module's `state_dict` themselves write them.
 *
 *   base_model.model.<module>.lora_A.weight                      half of a low-rank adapter, also lora_B
 *   base_model.model.<module>.lora_magnitude_vector              the lengths of the rows (DoRA)
 *   base_model.model.<module>.lora_embedding_A                   half of an adapter of an embedding, also _B
 *   base_model.model.<module>.token_adapter.trainable_tokens_delta   rows of an embedding that were trained
 *   base_model.model.<parameter>                                 a parameter that was trained as a whole
 *
 * Outside `save_pretrained` the adapter's own name stands in them too (`lora_A.default.weight`,
 * `modules_to_save.default.weight`), and the model's own weights beside them (`base_layer.weight`, `original_module.weight`).
 */

/** What a tensor of an adapter's file is of which module or parameter, and the adapter's name where that is in it. */
export type AdapterTensor = { readonly adapter: string | undefined } & (
  | { readonly kind: 'A' | 'B' | 'embedding A' | 'embedding B'; readonly module: string }
  | { readonly kind: 'magnitudes' | 'token rows'; readonly module: string }
  | { readonly kind: 'whole'; readonly parameter: string }
  | { readonly kind: 'unchanged' }
);

const PREFIX = /^base_model\.model\./;

/** What follows a module's name, with the adapter's name as `adapter`. */
const FORMS = [
  [/\.lora_A(?:\.(?<adapter>[^.]+))?\.weight$/, 'A'],
  [/\.lora_B(?:\.(?<adapter>[^.]+))?\.weight$/, 'B'],
  [/\.lora_embedding_A(?:\.(?<adapter>[^.]+))?$/, 'embedding A'],
  [/\.lora_embedding_B(?:\.(?<adapter>[^.]+))?$/, 'embedding B'],
  [/\.lora_magnitude_vector(?:\.(?<adapter>(?!weight$)[^.]+))?(?:\.weight)?$/, 'magnitudes'],
  [/\.token_adapter\.trainable_tokens_delta(?:\.(?<adapter>[^.]+))?$/, 'token rows'],
] as const;

/** Reads the name of a tensor. */
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
