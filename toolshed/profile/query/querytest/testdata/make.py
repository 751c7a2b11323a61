"""Answers queries.rq over facts.nt into expected.json, with pyoxigraph 0.5 (PyPI).

Where Oxigraph does not answer as SPARQL 1.1 has it (alternative paths without
their duplicates, zero steps from what is in no triple, the truth of a text in a
language) the name ends with (rdflib), and rdflib 7 (PyPI) answers.
"""
import json
import pathlib
import re

import pyoxigraph
import rdflib

here = pathlib.Path(__file__).parent
store = pyoxigraph.Store()
store.bulk_load((here / "facts.nt").read_bytes(), pyoxigraph.RdfFormat.N_TRIPLES)
graph = rdflib.Graph()
graph.parse(here / "facts.nt", format="nt")

cases = []
for part in re.split(r"^### ", (here / "queries.rq").read_text(), flags=re.M)[1:]:
    name, query = part.split("\n", 1)
    prologue = (
        "PREFIX : <http://e/>\nPREFIX xsd: <http://www.w3.org/2001/XMLSchema#>\n"
        "PREFIX rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#>\n"
    )
    if name.endswith("(rdflib)"):
        answer = json.loads(graph.query(prologue + query).serialize(format="json"))
    else:
        answer = json.loads(store.query(prologue + query).serialize(format=pyoxigraph.QueryResultsFormat.JSON))
    cases.append({"name": name, "query": prologue + query, "ordered": "ORDER BY" in query, "answer": answer})
(here / "expected.json").write_text(json.dumps(cases, indent=1) + "\n")
print(len(cases), "queries")
