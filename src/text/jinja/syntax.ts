/** The syntax tree of a template. */
import type { BinaryOperator } from './arithmetic.js';
import type { Value } from './values.js';

/** The arguments of a call, a filter or a test, as they are written. */
export interface CallArguments {
  readonly positional: readonly Expression[];
  readonly named: readonly (readonly [name: string, value: Expression])[];
  /** The argument after `*`. */
  readonly rest?: Expression;
  /** The argument after `**`. */
  readonly restNamed?: Expression;
}

/** The operators that can be chained, as in `a < b < c`. */
export type ComparisonOperator = '==' | '!=' | '<' | '<=' | '>' | '>=' | 'in' | 'not in';

/** The syntax tree of an expression. */
export type Expression =
  | { readonly kind: 'constant'; readonly value: Value }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'list' | 'tuple' | 'concat'; readonly items: readonly Expression[] }
  | { readonly kind: 'dict'; readonly entries: readonly (readonly [key: Expression, value: Expression])[] }
  | { readonly kind: 'attribute'; readonly from: Expression; readonly name: string }
  | { readonly kind: 'item'; readonly from: Expression; readonly key: Expression }
  | {
      readonly kind: 'slice';
      readonly from: Expression;
      readonly start: Expression;
      readonly stop: Expression;
      readonly step: Expression;
    }
  | { readonly kind: 'call'; readonly callee: Expression; readonly given: CallArguments }
  /** `value` is absent for the filter of a block, which gets the block's text. */
  | {
      readonly kind: 'filter';
      readonly value?: Expression;
      readonly name: string;
      readonly given: CallArguments;
    }
  | {
      readonly kind: 'test';
      readonly value: Expression;
      readonly name: string;
      readonly given: CallArguments;
    }
  | { readonly kind: 'not' | 'negative' | 'positive'; readonly value: Expression }
  | { readonly kind: 'and' | 'or'; readonly left: Expression; readonly right: Expression }
  | {
      readonly kind: 'binary';
      readonly operator: BinaryOperator;
      readonly left: Expression;
      readonly right: Expression;
    }
  | {
      readonly kind: 'comparison';
      readonly first: Expression;
      readonly others: readonly (readonly [operator: ComparisonOperator, operand: Expression])[];
    }
  | {
      readonly kind: 'condition';
      readonly test: Expression;
      readonly yes: Expression;
      readonly no: Expression | undefined;
    };

/** A target of an assignment. */
export type Target =
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'member'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'tuple'; readonly items: readonly Target[] };

/** A parameter of a macro; `usual` is its default. */
export interface Parameter {
  readonly name: string;
  readonly usual: Expression | undefined;
}

/** A `macro` block, or the body of a `call` block. */
export interface MacroDefinition {
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly body: readonly Statement[];
  /** Whether the body names `caller`, `varargs` or `kwargs`, without which it takes no such arguments. */
  readonly takes: { readonly caller: boolean; readonly varargs: boolean; readonly kwargs: boolean };
}

/** A `for` block; `only` is the condition after `if`. */
export interface Loop {
  readonly target: Target;
  readonly over: Expression;
  readonly only: Expression | undefined;
  readonly isRecursive: boolean;
  readonly body: readonly Statement[];
  /** The body for an empty sequence. */
  readonly otherwise: readonly Statement[];
}

/** The syntax tree of a statement. */
export type Statement =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'print'; readonly value: Expression }
  | {
      readonly kind: 'if';
      readonly branches: readonly (readonly [test: Expression, body: readonly Statement[]])[];
      readonly otherwise: readonly Statement[];
    }
  | { readonly kind: 'for'; readonly loop: Loop }
  | { readonly kind: 'break' | 'continue' }
  | { readonly kind: 'set'; readonly target: Target; readonly value: Expression }
  | {
      readonly kind: 'set block';
      readonly target: Target;
      readonly filter: Expression | undefined;
      readonly body: readonly Statement[];
    }
  | {
      readonly kind: 'with';
      readonly assignments: readonly (readonly [target: Target, value: Expression])[];
      readonly body: readonly Statement[];
    }
  | { readonly kind: 'macro'; readonly macro: MacroDefinition }
  | {
      readonly kind: 'call block';
      readonly call: Expression & { readonly kind: 'call' };
      readonly caller: MacroDefinition;
    }
  | { readonly kind: 'filter block'; readonly filter: Expression; readonly body: readonly Statement[] }
  /** A body with its own scope: `block` and `generation`. */
  | { readonly kind: 'scope'; readonly body: readonly Statement[]; readonly seesLoops: boolean };
