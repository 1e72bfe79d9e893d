// The Vercel AI SDK with its provider for OpenAI-compatible servers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { answer, apiKey, collect, cosine, embedder, gatewayOnly, greeting, puppet, toolArguments } from './stack.js';

const options = { name: 'synapse', apiKey, includeUsage: true, supportsStructuredOutputs: true };
const provider = (at, overrides) => createOpenAICompatible({ ...options, baseURL: at.baseURL, ...overrides });
const model = provider(puppet)(puppet.model);
const prompt = 'Who is there?';

test('generateText answers', async () => {
  const { text, usage } = await generateText({ model, prompt });
  assert.equal(text, greeting);
  assert.equal(usage.outputTokens, 6);
});

test('streamText spells out the reply', async () => {
  const result = streamText({ model, prompt });
  const words = await collect(result.textStream);
  assert.equal(words.join(''), greeting);
  assert.equal(words.length, 5);
  assert.equal((await result.usage).outputTokens, 6);
});

test('an agent calls its tool and goes on with the result', async () => {
  const calls = [];
  const weather = tool({
    inputSchema: z.object({ city: z.string(), unit: z.string() }),
    execute: async (input) => {
      calls.push(input);
      return 'sunny';
    },
  });
  const { text } = await generateText({ model, prompt, tools: { get_weather: weather }, stopWhen: stepCountIs(3) });
  assert.deepEqual(calls, [toolArguments]);
  assert.equal(text, answer);
});

test('generateObject keeps to its schema', async () => {
  const { object } = await generateObject({ model, prompt, schema: z.object({ city: z.enum(['Paris']) }) });
  assert.deepEqual(object, { city: 'Paris' });
});

test('embedMany keeps the order of its inputs', async () => {
  const values = ['cat', 'kitten', 'quarterly revenue'];
  const { embeddings } = await embedMany({ model: provider(embedder).embeddingModel(embedder.model), values });
  const [cat, kitten, revenue] = embeddings;
  assert.ok(cosine(cat, kitten) > cosine(cat, revenue));
});

test('a refusal carries its status and message', gatewayOnly, async () => {
  const refused = generateText({ model: provider(puppet, { apiKey: 'wrong' })(puppet.model), prompt, maxRetries: 0 });
  await assert.rejects(refused, (error) => {
    assert.equal(error.statusCode, 403);
    assert.equal(error.data.error.code, 'invalid_api_key');
    return true;
  });
});
