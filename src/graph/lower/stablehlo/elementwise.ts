/** Element-wise operators. */
import type { DType } from '../../dtype.js';
import type { StableHloBuilder, StableHloLowering } from './builder.js';
import type { Comparison } from './instructions.js';
import { elementOf, type Plain, type Value } from './value.js';

/** A binary instruction, on operands converted to their common type. */
export function hloBinary(name: string): StableHloLowering<unknown> {
  return (builder, inputs) => {
    const [a, b] = builder.alike(inputs as Value[]) as [Plain, Plain];
    return [builder.binary(name, a, b)];
  };
}

/** Compares two values of any shapes that broadcast; the result is i1. */
export function hloComparison(how: Comparison): StableHloLowering<unknown> {
  return (builder, inputs) => {
    const [a, b] = builder.alike(inputs as Value[]) as [Plain, Plain];
    return [builder.compare(how, a, b)];
  };
}

/** `select` with all three operands broadcast to one shape. */
export const hloWhere: StableHloLowering<unknown> = (builder, [condition, ...branches]) => {
  const [a, b] = builder.alike(branches as Value[]) as [Plain, Plain];
  return [builder.select(builder.plain(condition!), a, b)];
};

/** A unary instruction, in the operand's type. */
export function hloUnary(name: string): StableHloLowering<unknown> {
  return (builder, [x]) => [builder.unary(name, builder.plain(x!))];
}

type Function = (builder: StableHloBuilder, x: Plain) => Plain;

/** A function that is computed in float32; the result has the operand's type, or float32 if `isWide`. */
export function hloFunction(f: string | Function, isWide = false): StableHloLowering<unknown> {
  return (builder, [x]) => {
    const given = builder.plain(x!);
    const wide = builder.wide(given);
    const result = typeof f === 'string' ? builder.unary(f, wide) : f(builder, wide);
    return [isWide ? { ...result, isWeak: false } : builder.as(result, given.element)];
  };
}

/** A conversion to another dtype; to bool, whether the value differs from 0. */
export function hloCast(builder: StableHloBuilder, x: Value, to: DType): Plain {
  const given = builder.plain(x);
  const element = elementOf(to);
  if (element === 'i1') return builder.compare('NE', given, builder.splat(0, given.element));
  return builder.as(given, element);
}

/** log(1 + e^x) as max(x, 0) + log1p(e^-|x|), which does not overflow. */
export const softplus: Function = (builder, x) => {
  const small = builder.unary('exponential', builder.unary('negate', builder.unary('abs', x)));
  return builder.binary(
    'add',
    builder.binary('maximum', x, builder.splat(0, 'f32')),
    builder.unary('log_plus_one', small),
  );
};

/**
 * erf(x) = x P(x^2) / Q(x^2) for |x| < 4, beyond which it is 1 in float32: the rational approximation of Eigen and XLA, accurate to a few ulps.
 */
export const erf: Function = (builder, x) => {
  const number = (value: number): Plain => builder.splat(value, 'f32');
  const bounded = builder.binary('maximum', builder.binary('minimum', x, number(4)), number(-4));
  const square = builder.binary('multiply', bounded, bounded);
  const polynomial = (coefficients: readonly number[]): Plain =>
    coefficients
      .slice(1)
      .reduce(
        (sum, coefficient) =>
          builder.binary('add', builder.binary('multiply', sum, square), number(coefficient)),
        number(coefficients[0]!),
      );
  return builder.binary(
    'divide',
    builder.binary('multiply', bounded, polynomial(ERF_NUMERATOR)),
    polynomial(ERF_DENOMINATOR),
  );
};

const ERF_NUMERATOR = [
  -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5,
  -7.34990630326855e-4, -2.954599808546e-3, -1.60960333262415e-2,
];
const ERF_DENOMINATOR = [
  -1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3,
  -1.42647390514189e-2,
];
