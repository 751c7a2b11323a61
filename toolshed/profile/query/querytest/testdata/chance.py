"""Makes random.json: random queries over facts.nt with pyoxigraph's answers.

    chance.py SEED COUNT > random.json

Left out is where Oxigraph 0.5 does not answer as SPARQL 1.1 has it (make.py),
and further: texts of numbers, which it writes anew; comparing IRIs by < and >;
MINUS inside of EXISTS.
"""
import json
import pathlib
import random
import sys

import pyoxigraph

here = pathlib.Path(__file__).parent
store = pyoxigraph.Store()
store.bulk_load((here / "facts.nt").read_bytes(), pyoxigraph.RdfFormat.N_TRIPLES)
dice = random.Random(int(sys.argv[1]))
variables = ["?a", "?b", "?c", "?d"]
predicates = [":knows", ":parent", ":name", ":age", ":under", "a", ":owner", ":self", ":mail"]
paths = [":parent+", "^:knows", ":knows/:parent", "(:knows/:knows)+"]
terms = [":ann", ":bob", ":cyd", ":dee", ":Thing", ":Person", "41", '"Ann"', '"Bob"']


def var():
    return dice.choice(variables)


def triple():
    subject = var() if dice.random() < 0.85 else dice.choice(terms[:5])
    predicate = dice.choice(predicates) if dice.random() < 0.7 else var()
    if dice.random() < 0.15:
        predicate = dice.choice(paths)
    return f"{subject} {predicate} {var() if dice.random() < 0.75 else dice.choice(terms)} ."


def condition(depth=0):
    roll = dice.random()
    if depth > 2 or roll < 0.3:
        return dice.choice([
            f"{var()} = {var()}", f"{var()} != {dice.choice(terms)}", f"{var()} > 10", f"bound({var()})",
            f"isIRI({var()})", f"sameTerm({var()}, {var()})",
        ])
    if roll < 0.45:
        return f"(!({condition(depth + 1)}))"
    if roll < 0.75:
        return f"(({condition(depth + 1)}) {dice.choice(['&&', '||'])} ({condition(depth + 1)}))"
    if roll < 0.85:
        return f"coalesce({var()}, {dice.choice(terms)}) = {dice.choice(terms)}"
    if roll < 0.93:
        return f"if({condition(depth + 1)}, {condition(depth + 1)}, {condition(depth + 1)})"
    return f"{var()} IN ({dice.choice(terms)}, {var()})"


def part(depth, exists):
    roll = dice.random()
    if roll < 0.3 or depth > 2:
        return triple()
    if roll < 0.5:
        return "OPTIONAL " + group(depth + 1, exists)
    if roll < 0.6:
        return group(depth + 1, exists) + " UNION " + group(depth + 1, exists)
    if roll < 0.68:
        return triple() if exists else "MINUS " + group(depth + 1, exists)
    if roll < 0.82:
        return f"FILTER({condition()})"
    if roll < 0.86:
        return f"FILTER {dice.choice(['', 'NOT '])}EXISTS {group(depth + 1, True)}"
    if roll < 0.9:
        return f"VALUES ({var()}) {{ ({dice.choice(terms)}) (UNDEF) ({dice.choice(terms)}) }}"
    if roll < 0.94:
        return group(depth + 1, exists)
    if roll < 0.97:
        return "{ SELECT " + dice.choice(["", "DISTINCT "]) + " ".join(dice.sample(variables, 2)) + " " + group(depth + 1, exists) + " }"
    return f"BIND({dice.choice(terms)} AS ?n{dice.randint(0, 10**6)})"


def group(depth=0, exists=False):
    parts = [triple()] if dice.random() < 0.8 else []
    parts += [part(depth, exists) for _ in range(dice.randint(0, 3))]
    return "{ " + " ".join(parts) + " }"


cases = []
while len(cases) < int(sys.argv[2]):
    form = dice.choice(["SELECT ?a ?b ?c ?d", "SELECT ?a ?b ?c ?d", "SELECT DISTINCT ?a ?b", "SELECT (COUNT(*) AS ?n) (COUNT(DISTINCT ?b) AS ?m)"])
    query = f"PREFIX : <http://e/> {form} {group()}"
    try:
        answer = json.loads(store.query(query).serialize(format=pyoxigraph.QueryResultsFormat.JSON))
    except SyntaxError:
        continue
    rows = len(answer["results"]["bindings"])
    # Few with no rows, and none with many.
    if rows > 20 or query.count("{") > 12 or (rows == 0 and dice.random() < 0.8):
        continue
    cases.append({"name": f"random {len(cases)}", "query": query, "ordered": False, "answer": answer})
print("[" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "]")
