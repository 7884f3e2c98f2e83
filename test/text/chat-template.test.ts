/**
 * Chat templates against transformers: small ones of one construct each, whole ones over several
 * conversations (tools/golden/chat_templates.py), and the limits of rendering.
 */
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ChatRenderer } from '../../src/text/chat.ts';
import { parseJson, TemplateFloat } from '../../src/text/jinja/from-javascript.ts';
import { limits } from '../../src/text/jinja/limits.ts';
import { strftime } from '../../src/text/jinja/strftime.ts';
import { ChatTemplate } from '../../src/text/jinja/template.ts';

const golden = <T>(name: string): T =>
  JSON.parse(readFileSync(new URL(`../golden/chat-templates/${name}.json`, import.meta.url), 'utf8')) as T;

interface Rendered {
  readonly text?: string;
  readonly error?: string;
  readonly message?: string;
}

const { variables, rows } = golden<{
  variables: string;
  rows: readonly (Rendered & { group: string; template: string })[];
}>('rows');
const values = parseJson(variables) as Record<string, unknown>;
const render = (template: string, given: Record<string, unknown> = values): string =>
  new ChatTemplate(template).render(given);

describe('small templates', () => {
  test.each(rows.filter((row) => row.group !== 'refused' && row.text !== undefined))(
    '$group: $template',
    ({ template, text }) => expect(render(template)).toBe(text),
  );

  test.each(rows.filter((row) => row.group !== 'refused' && row.text === undefined))(
    '$group: $template is refused as by transformers',
    ({ template, message }) => {
      const error = failure(() => render(template));
      expect(['TemplateError', 'RangeError']).toContain(error.name);
      expect(error.message).not.toMatch(/is not supported$/);
      if (message !== undefined) expect(error.message).toBe(message);
    },
  );

  test.each(rows.filter((row) => row.group === 'refused'))('$template is refused by name', ({ template }) =>
    expect(failure(() => render(template)).message).toMatch(/^chat template: .* is not supported$/),
  );
});

function failure(run: () => unknown): Error {
  try {
    run();
  } catch (error) {
    return error as Error;
  }
  throw new Error('expected an error, got none');
}

describe('whole templates', () => {
  const { tokens, conversations, models } = golden<{
    tokens: Record<string, string>;
    conversations: Record<string, string>;
    models: readonly {
      name: string;
      template: string;
      cases: readonly (Rendered & { conversation: string })[];
    }[];
  }>('models');

  test.each(models)('$name renders every conversation as transformers does', ({ template, cases }) => {
    const renderer = new ChatRenderer(new Map([['default', template]]), tokens);
    for (const { conversation, text } of cases) {
      const parsed = parseJson(conversations[conversation]) as Record<string, never>;
      const { messages, tools, documents, add_generation_prompt: addGenerationPrompt, ...rest } = parsed;
      const run = (): string =>
        renderer.render(messages, { tools, documents, addGenerationPrompt, variables: rest });
      if (text === undefined) expect(run, conversation).toThrow();
      else expect(run(), conversation).toBe(text);
    }
  });
});

describe('which template is used and what it is given', () => {
  const messages = [{ role: 'user', content: 'hi' }];
  const several = new ChatRenderer(
    new Map([
      ['default', 'D{{ tools }}{{ documents }}'],
      ['tool_use', 'T{{ tools|length }}'],
      ['rag', 'R{{ documents[0].title }}'],
    ]),
    {},
  );

  test('tools and documents are none where they are not given', () => {
    expect(several.render(messages, {})).toBe('DNoneNone');
    expect(several.render(messages, { tools: null, documents: undefined })).toBe('DNoneNone');
  });

  test('tool_use with tools, another by its name, or a source', () => {
    expect(several.render(messages, { tools: [] })).toBe('T0');
    expect(several.render(messages, { template: 'rag', documents: [{ title: 'a' }], tools: [] })).toBe('Ra');
    expect(several.render(messages, { template: '{{ messages[0].role }}' })).toBe('user');
    expect(() => several.render(messages, { template: 'tools' })).toThrow(
      "template to be one of 'default', 'tool_use', 'rag', or a Jinja source, got 'tools'",
    );
    const named = new ChatRenderer(new Map([['rag', 'R']]), {});
    expect(() => named.render(messages, {})).toThrow("expected a template 'default', got only 'rag'");
  });

  test('null keys of messages are left out, and reasoning goes by both of its names', () => {
    const one = new ChatRenderer(
      new Map([['default', '{% for m in messages %}{{ m.keys()|list }}{{ m.thinking }}{% endfor %}']]),
      {},
    );
    const turns = [
      { role: 'user', content: null },
      { role: 'assistant', content: 'x', reasoning_content: 'r' },
    ];
    expect(one.render(turns, {})).toBe("['role']['thinking', 'role', 'content', 'reasoning_content']r");
  });

  test('what is no chat is refused', () => {
    const { templates } = several;
    expect(() => several.render([], {})).toThrow('expected at least 1 message, got 0');
    expect(() => several.render('hi' as never, {})).toThrow('expected an array of messages');
    expect(() => several.render(['hi'] as never, {})).toThrow('expected message 0 to be an object');
    expect(() => several.render(messages, { tools: [() => 1] as never })).toThrow('tools of plain objects');
    expect(() => several.render(messages, { variables: { tools: [] } })).toThrow(
      "expected 'tools' as an option",
    );
    expect(() => several.render(messages, { thinking: true } as never)).toThrow('thinking');
    expect(templates.size).toBe(3);
  });

  test('numbers of JavaScript, big ones, and floats that are whole', () => {
    const given = {
      a: 1,
      b: 1.5,
      c: new TemplateFloat(1),
      d: 2n ** 70n,
      e: new Uint8Array(1),
      f: [undefined],
    };
    expect(render('{{ a }} {{ b }} {{ c }} {{ d }} {{ e }} {{ f }}', given)).toBe(
      '1 1.5 1.0 1180591620717411303424 <Uint8Array> [None]',
    );
    expect(() => render('{{ a }}', { a: [Symbol('x')] })).toThrow(
      'a of plain JSON values, got a symbol in it',
    );
    const cycle: unknown[] = [];
    cycle.push(cycle);
    expect(() => render('x', { cycle })).toThrow('400 nested lists and objects in cycle');
    expect(render('{{ v }}', { v: parseJson('{"a": [1.0, 1e2, 12345678901234567890, "1.0 \\" 2"]}') })).toBe(
      "{'a': [1.0, 100.0, 12345678901234567890, '1.0 \" 2']}",
    );
  });
});

describe('strftime_now', () => {
  afterEach(() => vi.useRealTimers());

  const { cases } = golden<{ cases: readonly { time: string; texts: Record<string, string> }[] }>('strftime');
  test.each(cases)('every code at $time', ({ time, texts }) => {
    const got = Object.fromEntries(
      Object.keys(texts).map((code) => [code, strftime(new Date(time), `%${code}`)]),
    );
    expect(got).toEqual(texts);
  });

  test('the current time; an unknown code is refused', () => {
    vi.useFakeTimers({ now: new Date(2024, 6, 4) });
    expect(render("{{ strftime_now('%A, %-d %B %Y') }}")).toBe('Thursday, 4 July 2024');
    expect(() => render("{{ strftime_now('%Q') }}")).toThrow('%Q in strftime_now is not supported');
  });
});

describe('bounds', () => {
  const double = (start: string, more: string): string =>
    `{% set ns = namespace(x=${start}) %}{% for i in range(99) %}{% set ns.x = ${more} %}{% endfor %}{{ ns.x }}`;
  const many = (part: string): string => part.repeat(100_000);

  test.each<[string, string, string]>([
    [
      'a long range',
      '{% for i in range(1000000000) %}x{% endfor %}',
      '100000 items in a range, got 1000000000',
    ],
    [
      'loops in loops',
      '{% for a in range(99999) %}{% for b in range(99999) %}{% if 1 %}{% if 1 %}{% endif %}{% endif %}{% endfor %}{% endfor %}',
      'in one render, got',
    ],
    [
      'a recursion that doubles',
      '{% macro f(n) %}{{ 1 if n < 2 else f(n - 1)|int + f(n - 2)|int }}{% endmacro %}{{ f(40) }}',
      'in one render, got',
    ],
    [
      'a recursion without end',
      '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
      '400 nested expressions and macros',
    ],
    ['a large source', 'x'.repeat(50_000_000), '1048576 characters in a template, got 50000000'],
    ['a text times a number', "{{ 'a' * 1000000000 }}", '134217728 characters processed in one render, got'],
    ['a list times a number', '{{ [1] * 1000000000 }}', '16777216 steps in one render, got 10000000'],
    ['indent', "{{ 'a'|indent(1000000000) }}", '134217728 characters processed in one render, got'],
    ['center', "{{ 'a'|center(1000000000) }}", '134217728 characters processed in one render, got'],
    ['a width of a format', "{{ '%1000000000d' % 5 }}", '134217728 characters processed in one render, got'],
    ['a text doubled', double("'ab'", 'ns.x + ns.x'), '134217728 characters processed in one render, got'],
    ['a list in a list, doubled', double('[1]', '[ns.x, ns.x]'), 'in one render, got'],
    [
      'a tuple in a tuple, doubled, as a key',
      `${double('(1,)', '(ns.x, ns.x)').slice(0, -10)}{{ {}[ns.x] }}`,
      'in one render, got',
    ],
    [
      'tuples in tuples as a key',
      `${double('(1,)', '(ns.x,)').slice(0, -10)}{{ { ns.x: 1 }[ns.x] }}`.replace('99', '500'),
      '400 ',
    ],
    ['a whole number squared', double('9', 'ns.x * ns.x'), '14284 bits in a whole number, got'],
    ['a power', '{{ 9 ** 999999999 }}', '14284 bits in a whole number, got'],
    ['generators on generators', double('[1]', "ns.x|map('abs')"), 'printing a generator'],
    ['brackets in brackets', `{{ ${many('(')}1${many(')')} }}`, '100 nested brackets and blocks, got 101'],
    ['blocks in blocks', many('{% if 1 %}'), '100 nested brackets and blocks, got 101'],
    ['operators in a row', `{{ ${many('1+')}1 }}`, '100 operators in a row, got 101'],
  ])('%s ends with an error', (_, template, message) => {
    expect(failure(() => render(template)).message).toContain(message);
  });

  test('a long conversation is within them', () => {
    const messages = Array.from({ length: 2000 }, (_, i) => ({
      role: i % 2 === 0 ? 'user' : 'assistant',
      content: 'word '.repeat(400),
    }));
    const template =
      "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' }}{{ m.content.split('</think>')[-1]|trim }}{% endfor %}";
    const size = messages.reduce((sum, { role }) => sum + role.length + 4 + 5 * 400 - 1, 0);
    expect(render(template, { messages })).toHaveLength(size);
    expect(limits.characters).toBeGreaterThan(16 * size);
  });
});
