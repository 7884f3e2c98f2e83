/** The flags of a chat: earlier turns, a system message, tools, variables of the model's chat template. */
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import type { ChatMessage, ChatTemplateOptions } from '../text/chat.ts';
import { parseJson } from '../text/jinja/from-javascript.ts';
import { UsageError } from './errors.ts';
import * as parse from './options.ts';
import { utf8Text } from './read-text.ts';

/** What a chat template renders besides messages. */
export interface TemplateFlags {
  readonly system?: string;
  readonly tools?: string;
  readonly templateVar?: Readonly<Record<string, unknown>>;
}

export interface ChatFlags extends TemplateFlags {
  readonly chat?: true;
  readonly prompt?: string;
  readonly prompts?: string;
  readonly messages?: string;
}

export function addChatOptions(command: Command): Command {
  command
    .option('--chat', "apply the model's chat template, with the prompt as the user's message")
    .option('--messages <file>', 'earlier turns: a JSON list of { role, content } (with --chat)', parse.path);
  return addTemplateOptions(command, ' (with --chat)');
}

/** @param condition when they apply, for the help */
export function addTemplateOptions(command: Command, condition = ''): Command {
  return command
    .option('--system <text>', `system message${condition}`)
    .option('--tools <file>', `functions the model may call: a JSON list of schemas${condition}`, parse.path)
    .option(
      '--template-var <name=value>',
      `variable of the chat template, such as enable_thinking=false (may be given several times)${condition}`,
      variable,
    );
}

/** The tools and variables that the flags name. */
export function readTemplateFlags({ tools, templateVar }: TemplateFlags): ChatTemplateOptions {
  return {
    ...(tools !== undefined && { tools: readList(tools, 'tools') }),
    ...(templateVar !== undefined && { variables: templateVar }),
  };
}

/** Parses the value as JSON, or keeps it as text when it is not JSON. */
function variable(
  text: string,
  before: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(text) ?? [];
  if (name === undefined) throw new InvalidArgumentError('Expected name=value.');
  let parsed: unknown = value;
  try {
    parsed = parseJson(value);
  } catch {
    // Not JSON: keep the text.
  }
  return { ...before, [name]: parsed };
}

export function checkChatFlags(flags: ChatFlags): void {
  for (const [flag, value] of [
    ['--system', flags.system],
    ['--messages', flags.messages],
    ['--tools', flags.tools],
    ['--template-var', flags.templateVar],
  ] as const) {
    if (value !== undefined && !flags.chat) throw new UsageError(`${flag} needs --chat`);
  }
  if (flags.prompt === undefined && flags.prompts === undefined && flags.messages === undefined) {
    throw new UsageError(
      "required option '--prompt <text>' not specified, nor --chat with --messages <file>",
    );
  }
}

export interface Chat {
  readonly messages: readonly ChatMessage[];
  readonly options: ChatTemplateOptions;
}

/**
 * Reads the messages and tools of a chat.
 * @param prompt the last turn; undefined when --messages holds all turns
 */
export function readChat(flags: ChatFlags, prompt: string | undefined): Chat {
  const turns = flags.messages === undefined ? [] : readList(flags.messages, 'messages');
  const messages = [
    ...(flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]),
    ...(turns as ChatMessage[]),
    ...(prompt === undefined ? [] : [{ role: 'user', content: prompt }]),
  ];
  if (messages.length === 0) throw new Error(`${flags.messages}: expected at least one message, got none`);
  return {
    messages,
    options: {
      addGenerationPrompt: true,
      ...readTemplateFlags(flags),
    },
  };
}

function readList(file: string, what: string): Readonly<Record<string, unknown>>[] {
  const text = utf8Text(file, readFileSync(file));
  let list: unknown;
  try {
    list = parseJson(text);
  } catch (error) {
    throw new Error(`${file}: expected JSON, got: ${(error as Error).message}`);
  }
  const isObject = (value: unknown): boolean =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!Array.isArray(list) || !list.every(isObject)) {
    throw new Error(
      `${file}: expected a JSON list of ${what}, each an object, got ${text.trim().slice(0, 60)}`,
    );
  }
  return list as Readonly<Record<string, unknown>>[];
}
