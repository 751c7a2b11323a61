"""Serves a language model of random weights by llama.cpp's own server.

What it says means nothing; that it speaks the protocol is what the tests want.
Usage: serve.py MODEL-FILE. Prints the address; ends with its standard input.
"""
import sys

import gguf
import numpy as np
import xllamacpp

WIDTH, HEADS, LAYERS, INNER = 64, 4, 2, 128


# How this model has tools: llama.cpp reads from it what a call looks like, and
# makes a grammar of that.
TEMPLATE = """
{%- if tools %}<|im_start|>system
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
For each call: <tool_call>{"name": <name>, "arguments": <arguments>}</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content if message.content else "" }}
{%- for call in message.tool_calls or [] %}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}
"""


def vocabulary():
    """Special tokens, every byte, and the printable characters.

    A call begins with one token: of random letters none would ever begin.
    """
    special = [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<tool_call>", 4)]
    letters = ["\u2581"] + [chr(c) for c in range(33, 127)] + ["\n", "\t"]
    entries = special + [("<0x%02X>" % b, 6) for b in range(256)] + [(c, 1) for c in letters]
    return [t.encode() for t, _ in entries], [kind for _, kind in entries]


def write(path):
    tokens, kinds = vocabulary()
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(2048)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(INNER)
    w.add_head_count(HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_scores([-float(i) for i in range(len(tokens))])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    random = np.random.default_rng(7)

    def weights(name, *shape):
        w.add_tensor(name + ".weight", (random.standard_normal(shape) * 0.05).astype(np.float32))

    def ones(name):
        w.add_tensor(name + ".weight", np.ones(WIDTH, np.float32))

    weights("token_embd", len(tokens), WIDTH)
    weights("output", len(tokens), WIDTH)
    ones("output_norm")
    for i in range(LAYERS):
        layer = "blk.%d." % i
        ones(layer + "attn_norm")
        ones(layer + "ffn_norm")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights(layer + name, WIDTH, WIDTH)
        weights(layer + "ffn_gate", INNER, WIDTH)
        weights(layer + "ffn_up", INNER, WIDTH)
        weights(layer + "ffn_down", WIDTH, INNER)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    write(sys.argv[1])
    p = xllamacpp.CommonParams()
    p.model.path = sys.argv[1]
    p.hostnames = ["127.0.0.1"]
    p.port = 0
    p.n_ctx = 4096
    p.n_parallel = 2
    p.cpuparams.n_threads = 1
    p.warmup = False
    p.chat_template = TEMPLATE
    p.use_jinja = True
    server = xllamacpp.Server(p)
    print(server.listening_address, flush=True)
    sys.stdin.read()


main()
