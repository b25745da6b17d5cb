// Asks a server through OpenAI's client for Node: node ask.mjs BASE_URL
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "List all open orders." }];
const asked = { model: "demo", messages, max_tokens: 24 };

const whole = await client.chat.completions.create(asked);
let streamed = "";
let usage = null;
for await (const chunk of await client.chat.completions.create({
  ...asked, stream: true, stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
const completion = await client.completions.create({ model: "demo", prompt: "SELECT", max_tokens: 8 });
let refused = null;
try {
  await client.chat.completions.create({ ...asked, model: "other" });
} catch (error) {
  refused = { status: error.status, code: error.code };
}
const models = (await client.models.list()).data.map((model) => model.id);
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, streamed, usage,
  completion: completion.choices[0].text, refused, models,
}));
