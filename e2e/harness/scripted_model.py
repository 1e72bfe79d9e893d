"""Writes a GGUF file whose replies are known in advance, for a real llama-server.

The server is real: HTTP, tokens, sampling, grammars, slots, usage. Only the model is a puppet. Its attention and
feed-forward weights are zero, so the next token depends on nothing but the last one, and the output matrix links
each piece of a script to the piece that follows. A script begins at a start token; the chat template ends the prompt
with one, and so decides which script is played:

- `<greet>` (the default) says `GREETING` and stops;
- `<count>`, when the last message contains the word "count", goes round in a circle until it is stopped;
- `<call>`, when tools are offered, calls `TOOL` with `TOOL_ARGUMENTS`;
- `<answer>`, when the last message is a tool's result, says `ANSWER` and stops.

    python scripted_model.py scripted.gguf
"""

import json
import sys
from itertools import pairwise

GREETING = "Hello from a real server."
ANSWER = "It is sunny in Paris."
TOOL = "get_weather"
TOOL_ARGUMENTS = {"city": "Paris", "unit": "celsius"}

START_TOKENS = ["<greet>", "<count>", "<call>", "<answer>"]
TEMPLATE = """\
{%- if tools %}{% for tool in tools %}{{ tool | tojson }}
{% endfor %}{% endif %}
{%- for message in messages %}[{{ message.role }}]
{%- if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{% endfor %}
{%- if add_generation_prompt %}
{%- if messages[-1].role == "tool" %}<answer>
{%- elif tools %}<call>
{%- elif "count" in messages[-1].content %}<count>
{%- else %}<greet>
{%- endif %}{% endif %}"""


def scripts():
    """Start token → the pieces to say, and whether to begin again after the last."""
    call = json.dumps({"name": TOOL, "arguments": TOOL_ARGUMENTS})
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    return {
        "<greet>": (["Hello", " from", " a", " real", " server."], False),
        "<count>": ([f" {number}" for number in numbers], True),
        "<call>": (["<tool_call>", *thirds(f"\n{call}\n"), "</tool_call>"], False),
        "<answer>": (["It", " is", " sunny", " in", " Paris."], False),
    }


def thirds(text):
    """Cuts a text in three, so that a streamed tool call arrives in several deltas."""
    cut = len(text) // 3
    return [text[:cut], text[cut : 2 * cut], text[2 * cut :]]


def byte_alphabet():
    """The printable character that stands for each byte in GPT-2's vocabulary format."""
    spare = (chr(code) for code in range(256, 512))
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    return [chr(byte) if byte in shown else next(spare) for byte in range(256)]


def vocabulary():
    """Token texts (end of text, start tokens, all bytes, the pieces) and the links from a token to its successor."""
    end = 0
    tokens = ["<end>", *START_TOKENS, *byte_alphabet()]
    links = {}
    for start, (pieces, circular) in scripts().items():
        chain = range(len(tokens), len(tokens) + len(pieces))
        tokens += pieces
        links |= dict(pairwise([tokens.index(start), *chain]))
        links[chain[-1]] = chain[0] if circular else end
    if len(set(tokens)) != len(tokens):
        raise ValueError("every piece of every script must be unique, and longer than one byte")
    return tokens, links


def write(path):
    import gguf
    import numpy as np

    tokens, links = vocabulary()
    count, width, heads = len(tokens), 64, 4
    control, pieces_from = 1 + len(START_TOKENS), 1 + len(START_TOKENS) + 256

    # Linked tokens get orthogonal embeddings, so that a token's output row answers to its predecessor alone.
    linked = sorted({*links, *links.values()})
    if len(linked) > width:
        raise ValueError("the scripts have more pieces than the model has dimensions")
    embedding = np.full((count, width), 0.01, np.float32)
    embedding[linked] = np.eye(width, dtype=np.float32)[: len(linked)]
    output = np.zeros((count, width), np.float32)
    for token, successor in links.items():
        output[successor] += 4 * embedding[token]

    model = gguf.GGUFWriter(path, "llama")
    model.add_name("scripted")
    model.add_context_length(8192)
    model.add_embedding_length(width)
    model.add_block_count(1)
    model.add_feed_forward_length(width)
    model.add_head_count(heads)
    model.add_head_count_kv(heads)
    model.add_rope_dimension_count(width // heads)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_vocab_size(count)
    model.add_file_type(gguf.LlamaFileType.ALL_F32)
    model.add_tokenizer_model("gpt2")
    model.add_tokenizer_pre("gpt-2")
    model.add_token_list(tokens)
    kind = gguf.TokenType
    kinds = [kind.CONTROL] * control + [kind.NORMAL] * 256
    model.add_token_types(kinds + [kind.USER_DEFINED] * (count - pieces_from))
    # The format wants a merge; this one never happens.
    model.add_token_merges([f"{tokens[control]} {tokens[control]}"])
    model.add_eos_token_id(0)
    model.add_bos_token_id(0)
    model.add_add_bos_token(False)
    model.add_chat_template(TEMPLATE)

    zeros = np.zeros((width, width), np.float32)
    ones = np.ones(width, np.float32)
    model.add_tensor("token_embd.weight", embedding)
    model.add_tensor("output.weight", output)
    model.add_tensor("output_norm.weight", ones)
    for norm in ("attn_norm", "ffn_norm"):
        model.add_tensor(f"blk.0.{norm}.weight", ones)
    for layer in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        model.add_tensor(f"blk.0.{layer}.weight", zeros)
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


if __name__ == "__main__":
    write(sys.argv[1])
