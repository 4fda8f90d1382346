/** Activation functions, composed of element-wise operators. */
import { hloFunction } from '../lower/stablehlo/elementwise.js';
import { Instruction } from '../lower/wasm/codes.js';
import { applyOne, defineComposite, expansionIsUsed, type Node, type Tensor } from '../tensor.js';
import { add, divide, erf, maximum, multiply, sigmoid, subtract, tanh } from './elementwise.js';
import { floatOnly } from './infer.js';

const siluOperator = defineComposite<null>({
  name: 'silu',
  infer: floatOnly,
  gradient({ inputs, outputs, outputGradients: [g] }) {
    // (x s)' = s + x s (1 - s) with s = sigmoid(x); x s is the output, which is reused.
    const s = sigmoid(inputs[0]!);
    const y = outputs[0]!;
    return [multiply(g!, add(s, subtract(y, multiply(y, s))))];
  },
  kernels: {
    onnx(builder, inputs) {
      if (!builder.fused.has('QuickGelu')) return undefined;
      return builder.emit('QuickGelu', inputs, {
        domain: 'com.microsoft',
        attributes: { alpha: { float: 1 } },
      });
    },
    wasm: (builder, [x]) => [builder.map(Instruction.siluF, 'float32', [x!])],
    stablehlo: hloFunction((builder, x) => builder.binary('multiply', x, builder.unary('logistic', x))),
  },
  expand: ([x]) => [multiply(x!, sigmoid(x!))],
});

/** x * sigmoid(x) */
export function silu(x: Tensor): Tensor {
  return applyOne(siluOperator, [x], null);
}

/** max(x, 0); its derivative at 0 is taken as 1. */
export function relu(x: Tensor): Tensor {
  return maximum(x, 0);
}

/** max(x, 0)^2 (So et al., 2021) */
export function relu2(x: Tensor): Tensor {
  const positive = relu(x);
  return multiply(positive, positive);
}

const geluOperator = defineComposite<null>({
  name: 'gelu',
  infer: floatOnly,
  // ONNX Runtime recognizes this form and computes it in one pass.
  expand: ([x]) => [multiply(multiply(x!, 0.5), add(erf(divide(x!, Math.SQRT2)), 1))],
});

/** x * P(z < x) for a standard normal z (Hendrycks & Gimpel, 2016), exactly. */
export function gelu(x: Tensor): Tensor {
  return applyOne(geluOperator, [x], null);
}

const geluTanhOperator = defineComposite<null>({
  name: 'geluTanh',
  infer: floatOnly,
  kernels: {
    onnx(builder, inputs, node) {
      // The kernel does not accept scalars.
      const fits = builder.fused.has('FastGelu') && node.outputs[0]!.rank > 0;
      if (!fits || expansionIsUsed(node as Node, builder.used)) return undefined;
      return builder.emit('FastGelu', inputs, { domain: 'com.microsoft' });
    },
  },
  expand([x]) {
    const cubic = add(x!, multiply(multiply(x!, multiply(x!, x!)), 0.044715));
    return [multiply(multiply(x!, 0.5), add(tanh(multiply(cubic, Math.sqrt(2 / Math.PI))), 1))];
  },
});

/** `gelu` approximated with a tanh, as some checkpoints were trained. */
export function geluTanh(x: Tensor): Tensor {
  return applyOne(geluTanhOperator, [x], null);
}
