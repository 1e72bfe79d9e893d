"""Requests that several SDKs send."""

from harness.scripted_model import TOOL

ASK = [{"role": "user", "content": "Who is there?"}]
ASK_TO_COUNT = [{"role": "user", "content": "Please count."}]
ASK_WEATHER = [{"role": "user", "content": "How is the weather in Paris?"}]

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": TOOL,
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
