// Where the gateway and its models are; `e2e/with_stack.py` starts them and sets these.
const need = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests through e2e/with_stack.py`);
  return value;
};

export const apiKey = need('E2E_API_KEY');
export const puppet = { model: need('E2E_PUPPET'), baseURL: need('E2E_PUPPET_URL') };
export const embedder = { model: need('E2E_EMBEDDER'), baseURL: need('E2E_EMBEDDER_URL') };

/** For tests of what the gateway adds. */
export const gatewayOnly = process.env.E2E_DIRECT === '1' ? { skip: 'there is no gateway with E2E_DIRECT=1' } : {};

// What the scripted model says (e2e/harness/scripted_model.py).
export const greeting = 'Hello from a real server.';
export const answer = 'It is sunny in Paris.';
export const toolArguments = { city: 'Paris', unit: 'celsius' };

export function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
