// The official client for Node.js.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { apiKey, collect, cosine, embedder, gatewayOnly, greeting, puppet, toolArguments } from './stack.js';

const client = (at, key = apiKey) => new OpenAI({ baseURL: at.baseURL, apiKey: key, maxRetries: 0 });
const { model } = puppet;
const messages = [{ role: 'user', content: 'Who is there?' }];
const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      parameters: { type: 'object', properties: { city: { type: 'string' }, unit: { type: 'string' } } },
    },
  },
];

test('a reply arrives word for word', async () => {
  const reply = await client(puppet).chat.completions.create({ model, messages });
  assert.equal(reply.choices[0].message.content, greeting);
  assert.equal(reply.usage.completion_tokens, 6);
});

test('a stream spells out the reply, and reports usage when asked', async () => {
  const options = { stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await client(puppet).chat.completions.create({ model, messages, ...options }));
  const last = chunks.pop();
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''), greeting);
  assert.equal(last.usage.completion_tokens, 6);
});

test('usage stays away when nobody asked', async () => {
  const chunks = await collect(await client(puppet).chat.completions.create({ model, messages, stream: true }));
  assert.ok(chunks.every((chunk) => !chunk.usage));
});

test('the arguments of a tool call arrive in pieces', async () => {
  const request = { model, messages, tools, tool_choice: 'required', stream: true };
  const chunks = await collect(await client(puppet).chat.completions.create(request));
  const deltas = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  assert.ok(deltas.length > 1);
  assert.deepEqual(JSON.parse(deltas.map((delta) => delta.function.arguments ?? '').join('')), toolArguments);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'tool_calls');
});

test('related words lie closer together', async () => {
  const input = ['cat', 'kitten', 'quarterly revenue'];
  const reply = await client(embedder).embeddings.create({ model: embedder.model, input });
  const [cat, kitten, revenue] = reply.data.map((item) => item.embedding);
  assert.ok(cosine(cat, kitten) > cosine(cat, revenue));
});

test('a model whose name has a slash is found', gatewayOnly, async () => {
  assert.equal((await client(puppet).models.retrieve(model)).id, model);
});

test('a wrong key is refused', gatewayOnly, async () => {
  const refused = client(puppet, 'wrong').chat.completions.create({ model, messages });
  await assert.rejects(refused, (error) => {
    assert.ok(error instanceof OpenAI.PermissionDeniedError);
    assert.equal(error.code, 'invalid_api_key');
    assert.ok(error.requestID);
    return true;
  });
});
