package toolshed_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const profileFacts = "/api/profile/facts"

// ann is facts of two people, as a batch.
const ann = `{"source": "test", "facts": [
	{"subject": "http://e/ann", "predicate": "http://www.w3.org/1999/02/22-rdf-syntax-ns#type", "object": {"iri": "http://e/Person"}},
	{"subject": "http://e/ann", "predicate": "http://e/name", "object": "Ann"},
	{"subject": "http://e/ann", "predicate": "http://e/age", "object": 41},
	{"subject": "http://e/ann", "predicate": "http://e/label", "object": {"value": "Anna", "language": "de"}},
	{"subject": "http://e/ann", "predicate": "http://e/knows", "object": {"iri": "http://e/bob"}},
	{"subject": "http://e/bob", "predicate": "http://e/name", "object": "Bob"}]}`

// sparql answers a query's rows, each as its values.
func sparql(t *testing.T, s, query string, parameters ...string) string {
	t.Helper()
	asked := url.Values{"query": {query}}
	for i := 0; i < len(parameters); i += 2 {
		asked.Set(parameters[i], parameters[i+1])
	}
	status, text, h := ask(t, s, "GET", "/api/profile/sparql?"+asked.Encode(), "")
	if status != 200 || h.Get("Content-Type") != "application/sparql-results+json" {
		t.Fatalf("%s: %d %s %s", query, status, h.Get("Content-Type"), text)
	}
	var answer struct {
		Head    struct{ Vars []string }
		Boolean *bool
		Results struct {
			Bindings []map[string]struct{ Value string }
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Boolean != nil {
		return fmt.Sprint(*answer.Boolean)
	}
	var rows []string
	for _, b := range answer.Results.Bindings {
		var row []string
		for _, name := range answer.Head.Vars {
			row = append(row, b[name].Value)
		}
		rows = append(rows, strings.Join(row, " "))
	}
	return strings.Join(rows, "|")
}

const names = "SELECT ?n { ?s <http://e/name> ?n } ORDER BY ?n"

func TestProfileFacts(t *testing.T) {
	s := serve(t)
	if text := asks(t, s, 200, "POST", profileFacts, ann); !strings.Contains(text, `"added":6`) || !strings.Contains(text, `"present":0`) {
		t.Errorf("%s", text)
	}
	if text := asks(t, s, 200, "POST", profileFacts, ann); !strings.Contains(text, `"added":0`) || !strings.Contains(text, `"present":6`) || !strings.Contains(text, `"facts":[1,2,3,4,5,6]`) {
		t.Errorf("once more: %s", text)
	}
	// Another source says the same: the fact is there twice, the triple once.
	if text := asks(t, s, 200, "POST", profileFacts, strings.Replace(ann, `"test"`, `"other"`, 1)); !strings.Contains(text, `"added":6`) {
		t.Errorf("another source: %s", text)
	}
	if got := sparql(t, s, names); got != "Ann|Bob" {
		t.Errorf("names %s", got)
	}
	text := asks(t, s, 200, "GET", profileFacts+"?predicate=http://e/name&limit=3", "")
	if strings.Count(text, `"id"`) != 3 || !strings.Contains(text, `"next":8`) || !strings.Contains(text, `"source":"other"`) {
		t.Errorf("%s", text)
	}
	if text := asks(t, s, 200, "GET", profileFacts+"?predicate=http://e/name&limit=3&after=8", ""); strings.Count(text, `"id"`) != 1 || strings.Contains(text, `"next"`) {
		t.Errorf("the next page: %s", text)
	}
	if text := asks(t, s, 200, "GET", profileFacts+"?object=41", ""); strings.Count(text, `"id"`) != 2 || !strings.Contains(text, `"datatype":"http://www.w3.org/2001/XMLSchema#integer"`) {
		t.Errorf("by the object: %s", text)
	}
	// What one source retracts the other says still.
	if text := asks(t, s, 200, "POST", "/api/profile/retract", `{"predicate": "http://e/name", "source": "test"}`); !strings.Contains(text, `"retracted":2`) {
		t.Errorf("%s", text)
	}
	if got := sparql(t, s, names); got != "Ann|Bob" {
		t.Errorf("names %s", got)
	}
	asks(t, s, 200, "POST", "/api/profile/retract", `{"facts": [8]}`)
	if got := sparql(t, s, names); got != "Bob" {
		t.Errorf("names %s", got)
	}
	if text := asks(t, s, 200, "GET", "/api/profile/sources", ""); !strings.Contains(text, `{"source":"test","present":4,"facts":6}`) {
		t.Errorf("%s", text)
	}
	asks(t, s, 422, "POST", "/api/profile/retract", `{}`)
	for body, want := range map[string]string{
		`{"source": "test", "facts": []}`: "facts: there are 0", `{"facts": [{"subject": "http://e/x", "predicate": "http://e/p", "object": 1}]}`: "source:",
		`{"source": "test", "facts": [{"subject": "x", "predicate": "http://e/p", "object": 1}]}`:                       "facts[0]: subject: ",
		`{"source": "test", "facts": [{"subject": "http://e/x", "predicate": "http://e/p"}]}`:                           "facts[0].object: ",
		`{"source": "test", "facts": [{"subject": "http://e/x", "predicate": "http://e/p", "object": {"iri": "x y"}}]}`: "facts[0]: object: ",
		`{"source": "test", "facts": [{"subject": "http://e/x", "predicate": "http://e/p", "object": {}}]}`:             "want an iri or a value",
		`{"source": "test", "nonsense": 1}`: "nonsense", `{`: "body: ",
		`{"source": "test", "facts": [{"subject": "http://e/new", "predicate": "http://e/p", "object": 1}, {"subject": "http://e/x", "predicate": "", "object": 1}]}`: "facts[1]: predicate",
	} {
		if text := asks(t, s, 422, "POST", profileFacts, body); !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %q", body, text, want)
		}
	}
	// Nothing of a batch that is refused is kept.
	if got := sparql(t, s, "ASK { <http://e/new> ?p ?o }"); got != "false" {
		t.Errorf("half a batch is kept")
	}
	if status, _, _ := ask(t, s, "POST", profileFacts, ann, "Content-Type", "text/plain"); status != 415 {
		t.Errorf("text: %d", status)
	}
}

// What was known then is answered as it was, to the day and to the moment.
func TestProfileHistory(t *testing.T) {
	s := serve(t)
	var first struct{ At string }
	if err := json.Unmarshal([]byte(asks(t, s, 200, "POST", profileFacts, ann)), &first); err != nil {
		t.Fatal(err)
	}
	asks(t, s, 200, "POST", "/api/profile/retract", `{"subject": "http://e/bob"}`)
	asks(t, s, 200, "POST", profileFacts, `{"source": "test", "facts": [{"subject": "http://e/cyd", "predicate": "http://e/name", "object": "Cyd"}]}`)
	if got := sparql(t, s, names); got != "Ann|Cyd" {
		t.Errorf("now %s", got)
	}
	if got := sparql(t, s, names, "as_of", first.At); got != "Ann|Bob" {
		t.Errorf("then %s", got)
	}
	if got := sparql(t, s, names, "as_of", "2001-01-01"); got != "" {
		t.Errorf("before %s", got)
	}
	if got := sparql(t, s, names, "as_of", first.At[:10]); got != "Ann|Cyd" {
		t.Errorf("at the end of the day %s", got)
	}
	asks(t, s, 404, "GET", "/api/profile/entity?entity=http://e/bob", "")
	if text := asks(t, s, 200, "GET", "/api/profile/entity?entity=http://e/bob&as_of="+url.QueryEscape(first.At), ""); !strings.Contains(text, "Bob") {
		t.Errorf("%s", text)
	}
	text := asks(t, s, 200, "GET", "/api/profile/history?entity=http://e/bob", "")
	if strings.Count(text, `"asserted_at"`) != 2 || strings.Count(text, `"retracted_at"`) != 1 {
		t.Errorf("%s", text)
	}
	if text := asks(t, s, 200, "GET", "/api/profile/schema?as_of="+url.QueryEscape(first.At), ""); !strings.Contains(text, `"predicate":"http://e/name","facts":2,"subjects":2`) {
		t.Errorf("%s", text)
	}
	// Once more it is said, from now on.
	asks(t, s, 200, "POST", profileFacts, ann)
	if text := asks(t, s, 200, "GET", "/api/profile/history?entity=http://e/bob", ""); strings.Count(text, `"asserted_at"`) != 3 {
		t.Errorf("%s", text)
	}
	asks(t, s, 422, "GET", "/api/profile/graph?as_of=yesterday", "")
}

const marker = "MarkerOfWhatIsDeleted"

// marked are the files of a directory that have the marker in them.
func marked(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(marker)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// What is deleted is in no file of the data directory, and in no backup: by
// fact, by entity and by source, in values, names and sources, retracted or not.
func TestProfileDeletesForGood(t *testing.T) {
	dir := t.TempDir()
	handler, close, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	s := server.URL
	fill := func() {
		t.Helper()
		asks(t, s, 200, "POST", profileFacts, ann)
		for n := range 20 {
			var facts []string
			for i := range 50 {
				long := strings.Repeat("x", 40*i)
				facts = append(facts,
					fmt.Sprintf(`{"subject": "http://e/%s", "predicate": "http://e/note", "object": "note %d %d %s"}`, marker, n, i, long),
					fmt.Sprintf(`{"subject": "http://e/other%d", "predicate": "http://e/note", "object": "kept %d %d %s"}`, i, n, i, long),
					fmt.Sprintf(`{"subject": "http://e/other%d", "predicate": "http://e/likes", "object": {"iri": "http://e/%s"}}`, i, marker))
			}
			asks(t, s, 200, "POST", profileFacts, `{"source": "fill", "facts": [`+strings.Join(facts, ",")+`]}`)
		}
		asks(t, s, 200, "POST", "/api/profile/retract", `{"subject": "http://e/`+marker+`"}`)
	}
	clean := func(what string) {
		t.Helper()
		if files := marked(t, dir); len(files) > 0 {
			t.Errorf("%s: it is in %v", what, files)
		}
	}
	fill()
	if len(marked(t, dir)) == 0 {
		t.Fatal("the marker is in no file to begin with")
	}
	asks(t, s, 204, "PUT", "/api/profile/schema/hints", `{"predicate": "http://e/`+marker+`", "label": "x"}`)
	if text := asks(t, s, 200, "DELETE", "/api/profile/entity?entity=http://e/"+marker, ""); !strings.Contains(text, `"deleted":1050`) {
		t.Errorf("%s", text)
	}
	clean("an entity")
	asks(t, s, 404, "DELETE", "/api/profile/entity?entity=http://e/"+marker, "")
	if got := sparql(t, s, "SELECT (COUNT(*) AS ?n) { ?s <http://e/note> ?o }"); got != "1000" {
		t.Errorf("%s notes are left", got)
	}

	asks(t, s, 200, "POST", profileFacts, `{"source": "`+marker+`", "facts": [{"subject": "http://e/x", "predicate": "http://e/`+marker+`", "object": {"value": "`+marker+`", "datatype": "http://e/`+marker+`"}},
		{"subject": "http://e/ann", "predicate": "http://e/name", "object": "Ann"}]}`)
	asks(t, s, 200, "DELETE", "/api/profile/sources?source="+marker, "")
	clean("a source")
	if got := sparql(t, s, names); got != "Ann|Bob" {
		t.Errorf("what another source says is gone: %s", got)
	}

	text := asks(t, s, 200, "POST", profileFacts, `{"source": "test", "facts": [{"subject": "http://e/x", "predicate": "http://e/p", "object": "`+marker+`"}]}`)
	var added struct{ Facts []int64 }
	if err := json.Unmarshal([]byte(text), &added); err != nil {
		t.Fatal(err)
	}
	asks(t, s, 200, "DELETE", fmt.Sprint(profileFacts, "/", added.Facts[0]), "")
	asks(t, s, 404, "DELETE", fmt.Sprint(profileFacts, "/", added.Facts[0]), "")
	clean("a fact")

	// A node without a name goes with what has it.
	status, text, _ := ask(t, s, "POST", profileFacts+"?source=test", `{"@id": "http://e/y", "http://e/home": {"http://e/street": "`+marker+`", "http://e/rooms": {"@list": ["`+marker+`", 2]}}}`, "Content-Type", "application/ld+json")
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	asks(t, s, 200, "DELETE", "/api/profile/entity?entity=http://e/y", "")
	clean("what it has")
	server.Close()
	if err := close(); err != nil {
		t.Fatal(err)
	}
	clean("after the end")
}

// A document comes back as it was written.
func TestProfileDocuments(t *testing.T) {
	s := serve(t)
	post := func(want int, body string) string {
		t.Helper()
		status, text, _ := ask(t, s, "POST", profileFacts+"?source=import", body, "Content-Type", "application/ld+json")
		if status != want {
			t.Errorf("%s: %d %s, want %d", body, status, text, want)
		}
		return text
	}
	const document = `{"@context": "https://schema.org", "@id": "http://e/ann", "@type": "Person", "name": "Ann", "birthDate": "1985-03-02",
		"knows": {"@id": "http://e/bob", "@type": "Person", "name": "Bob"}, "address": {"@type": "PostalAddress", "addressLocality": "Ulm"}}`
	if text := post(200, document); !strings.Contains(text, `"added":9`) {
		t.Errorf("%s", text)
	}
	if text := post(200, document); !strings.Contains(text, `"added":0`) {
		t.Errorf("the same document again: %s", text)
	}
	if got := sparql(t, s, `PREFIX s: <http://schema.org/> SELECT ?n ?t { ?x s:name ?n ; s:address/s:addressLocality ?t }`); got != "Ann Ulm" {
		t.Errorf("%s", got)
	}
	status, text, h := ask(t, s, "GET", "/api/profile/entity?entity=http://e/ann", "", "Accept", "application/ld+json")
	if status != 200 || h.Get("Content-Type") != "application/ld+json" || !strings.Contains(text, `"http://schema.org/addressLocality":[{"@value":"Ulm"}]`) {
		t.Errorf("%d %s", status, text)
	}
	if text := post(200, text); !strings.Contains(text, `"added":0`) {
		t.Errorf("what is read is written as something else: %s", text)
	}
	text = asks(t, s, 200, "POST", "/api/profile/document", `{"entity": "http://e/ann", "context": "https://schema.org"}`)
	if !strings.Contains(text, `"birthDate":"1985-03-02"`) {
		t.Errorf("%s", text)
	}
	text = asks(t, s, 200, "POST", "/api/profile/document", `{"frame": {"@context": "https://schema.org", "@id": "http://e/ann"}}`)
	if !strings.Contains(text, `"name":"Bob"`) || !strings.Contains(text, `"addressLocality":"Ulm"`) {
		t.Errorf("%s", text)
	}
	if text := asks(t, s, 200, "GET", "/api/profile/graph", ""); strings.Count(text, `"@id":"http://e/bob"`) != 2 {
		t.Errorf("%s", text)
	}
	if text := post(422, `{"@context": "http://127.0.0.1:1/c", "name": "x"}`); !strings.Contains(text, "http://127.0.0.1:1/c") || !strings.Contains(text, "document-refused") {
		t.Errorf("%s", text)
	}
	asks(t, s, 422, "POST", "/api/profile/document", `{"context": "http://127.0.0.1:1/c"}`)
	asks(t, s, 422, "POST", "/api/profile/document", `{"frame": []}`)
}

// The protocol is SPARQL's, and what is wrong with a query is said.
func TestProfileProtocol(t *testing.T) {
	s := serve(t)
	asks(t, s, 200, "POST", profileFacts, ann)
	const path = "/api/profile/sparql"
	for _, c := range [][2]string{
		{"application/sparql-query", "ASK { ?x <http://e/knows> ?y }"}, {"application/x-www-form-urlencoded", url.Values{"query": {"ASK { ?x <http://e/knows> ?y }"}}.Encode()},
	} {
		if status, text, _ := ask(t, s, "POST", path, c[1], "Content-Type", c[0]); status != 200 || !strings.Contains(text, `"boolean":true`) {
			t.Errorf("%s: %d %s", c[0], status, text)
		}
	}
	_, text, _ := ask(t, s, "GET", path+"?query="+url.QueryEscape(`SELECT ?l { ?x <http://e/label> ?l }`), "")
	if strings.TrimSpace(text) != `{"head":{"vars":["l"]},"results":{"bindings":[{"l":{"type":"literal","value":"Anna","xml:lang":"de"}}]}}` {
		t.Errorf("%s", text)
	}
	odd := `SELECT ?a ?b ?c { VALUES (?a ?b) { ("one\ntwo\r\n" "say \"no\", they said") } }`
	if _, text, _ := ask(t, s, "GET", path+"?query="+url.QueryEscape(odd), "", "Accept", "text/csv"); text != "a,b,c\r\n\"one\ntwo\r\n\",\"say \"\"no\"\", they said\",\r\n" {
		t.Errorf("a CSV of lines is %q", text)
	}
	if _, text, _ := ask(t, s, "GET", path+"?query="+url.QueryEscape(names), "", "Accept", "text/csv"); text != "n\r\nAnn\r\nBob\r\n" {
		t.Errorf("%q", text)
	}
	for query, want := range map[string]string{
		"SELECT": "query-malformed", "DESCRIBE <http://e/x>": "query-unsupported", "SELECT * {\n GRAPH ?g { ?s ?p ?o } }": "line 2, column 2: GRAPH is not supported",
		`SELECT * { ?s ?p ?o FILTER(REGEX(?o, "(")) }`: "query-malformed",
	} {
		status, text, _ := ask(t, s, "GET", path+"?query="+url.QueryEscape(query), "")
		if status != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	for query, want := range map[string]int{"?query=ASK%7B%7D&default-graph-uri=http://e/": 400, "?query=ASK%7B%7D&format=json": 200, "": 422} {
		if status, text, _ := ask(t, s, "GET", path+query, ""); status != want {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	if status, _, _ := ask(t, s, "POST", path, "update=x", "Content-Type", "application/x-www-form-urlencoded"); status != 400 {
		t.Errorf("an update: %d", status)
	}
	if status, _, _ := ask(t, s, "POST", path, "ASK {}", "Content-Type", "text/plain"); status != 415 {
		t.Errorf("text: %d", status)
	}
	// More than is answered is refused, and does not end anything.
	var facts []string
	for i := range 300 {
		facts = append(facts, fmt.Sprintf(`{"subject": "http://e/n%d", "predicate": "http://e/n", "object": %d}`, i, i))
	}
	asks(t, s, 200, "POST", profileFacts, `{"source": "test", "facts": [`+strings.Join(facts, ",")+`]}`)
	large := "SELECT * { ?a <http://e/n> ?x . ?b <http://e/n> ?y . ?c <http://e/n> ?z }"
	if status, text, _ := ask(t, s, "GET", path+"?query="+url.QueryEscape(large), ""); status != 422 || !strings.Contains(text, "query-too-large") {
		t.Errorf("%d %s", status, text)
	}
	if got := sparql(t, s, large+" LIMIT 1"); got == "" {
		t.Error("no row of many")
	}
}

func TestProfileSchema(t *testing.T) {
	s := serve(t)
	asks(t, s, 200, "POST", profileFacts, ann)
	const hints = "/api/profile/schema/hints"
	add := func(want int, object string) string {
		t.Helper()
		return asks(t, s, want, "POST", profileFacts, `{"source": "test", "facts": [{"subject": "http://e/ann", "predicate": "http://e/age", "object": `+object+`}]}`)
	}
	asks(t, s, 204, "PUT", hints, `{"predicate": "http://e/age", "label": "Age", "range": "http://www.w3.org/2001/XMLSchema#integer", "single_valued": true}`)
	if text := add(200, `"old"`); !strings.Contains(text, "a hint says otherwise") {
		t.Errorf("%s", text)
	}
	asks(t, s, 204, "PUT", hints, `{"predicate": "http://e/age", "range": "http://www.w3.org/2001/XMLSchema#integer", "single_valued": true, "enforce": "refuse"}`)
	if text := add(422, `"older"`); !strings.Contains(text, "against-hint") || !strings.Contains(text, "facts[0].object") {
		t.Errorf("%s", text)
	}
	asks(t, s, 200, "POST", "/api/profile/retract", `{"predicate": "http://e/age"}`)
	add(200, "42")
	add(200, "42")
	add(422, "43")
	text := asks(t, s, 200, "GET", "/api/profile/schema", "")
	for _, want := range []string{
		`{"type":"http://e/Person","entities":1}`, `"predicate":"http://e/age","facts":1,"subjects":1,"kinds":{"http://www.w3.org/2001/XMLSchema#integer":1}`,
		`"single_valued":true,"enforce":"refuse"`, `"predicate":"http://e/knows","facts":1,"subjects":1,"kinds":{"iri":1},"example":{"subject":"http://e/ann"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	asks(t, s, 204, "DELETE", hints+"?predicate=http://e/age", "")
	asks(t, s, 404, "DELETE", hints+"?predicate=http://e/age", "")
	asks(t, s, 422, "PUT", hints, `{"predicate": "age"}`)
	add(200, "43")
}

// Changes are told to who listens.
func TestProfileFeed(t *testing.T) {
	s := serve(t)
	l := listen(t, s, "topic=feed/profile")
	asks(t, s, 200, "POST", profileFacts, ann)
	first := l.next("message")
	if data := string(first.Data); !strings.Contains(data, `"op":"added"`) || !strings.Contains(data, `"count":6`) || !strings.Contains(data, "http://e/ann") {
		t.Errorf("%s", data)
	}
	asks(t, s, 200, "POST", "/api/profile/retract", `{"subject": "http://e/bob"}`)
	if e := l.next("message"); !strings.Contains(string(e.Data), `"op":"retracted"`) || !strings.Contains(string(e.Data), "http://e/bob") {
		t.Errorf("%s", e.Data)
	}
	asks(t, s, 200, "DELETE", "/api/profile/entity?entity=http://e/bob", "")
	deleted := l.next("message")
	if !strings.Contains(string(deleted.Data), `"op":"deleted"`) || strings.Contains(string(deleted.Data), "http://e/bob") {
		t.Errorf("%s", deleted.Data)
	}
	// Who resumes is not told what was deleted.
	again := listen(t, s, "topic=feed/profile", "Last-Event-ID", first.ID)
	again.next("gap")
	if e := again.next("message"); e.ID != deleted.ID {
		t.Errorf("after the deletion: %+v", e)
	}
}

func TestProfileQuota(t *testing.T) {
	s := serveWith(t, "profile: {quota_bytes: 200000}\n")
	asks(t, s, 200, "POST", profileFacts, ann)
	big := strings.Repeat("x", 60000)
	body := func(n int) string {
		return fmt.Sprintf(`{"source": "test", "facts": [{"subject": "http://e/big", "predicate": "http://e/p", "object": "%d%s"}]}`, n, big)
	}
	n, text := 0, ""
	for status := 200; status == 200; n++ {
		if status, text, _ = ask(t, s, "POST", profileFacts, body(n), "Content-Type", "application/json"); n > 3 {
			t.Fatal("there is no quota")
		}
	}
	if !strings.Contains(text, `"quota"`) || !strings.Contains(text, `"status":507`) {
		t.Errorf("%s", text)
	}
	if got := sparql(t, s, "SELECT (COUNT(*) AS ?n) { <http://e/big> ?p ?o }"); got != fmt.Sprint(n-1) {
		t.Errorf("%s are kept, want %d", got, n-1)
	}
	asks(t, s, 200, "DELETE", "/api/profile/entity?entity=http://e/big", "")
	asks(t, s, 200, "POST", profileFacts, body(0))
}

func TestProfilePage(t *testing.T) {
	s := serve(t)
	form := func(path string, want int, values ...string) string {
		t.Helper()
		v := url.Values{}
		for i := 0; i < len(values); i += 2 {
			v.Set(values[i], values[i+1])
		}
		status, text, _ := ask(t, s, "POST", "/profile/"+path, v.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		if status != want {
			t.Errorf("%s %v: %d %s, want %d", path, values, status, text, want)
		}
		return text
	}
	text := form("add", 200, "entity", "http://e/ann", "predicate", "http://e/name", "object", "<script>Ann")
	if !strings.Contains(text, "&lt;script&gt;Ann") || strings.Contains(text, "<script>Ann") {
		t.Errorf("%s", text)
	}
	form("add", 200, "entity", "http://e/ann", "predicate", "http://e/age", "kind", "a number", "object", "41")
	form("add", 200, "entity", "http://e/bob", "predicate", "http://e/knows", "kind", "an entity, by its IRI", "object", "http://e/ann")
	form("add", 200, "entity", "http://e/ann", "predicate", "http://e/label", "kind", "a text in a language", "object", "Anna", "detail", "de")
	if text := form("add", 422, "entity", "http://e/ann", "predicate", "age", "object", "41"); !strings.Contains(text, `role="alert"`) || !strings.Contains(text, `value="age"`) {
		t.Errorf("%s", text)
	}
	form("add", 422, "entity", "http://e/ann", "predicate", "http://e/age", "kind", "a number", "object", "many")
	if got := sparql(t, s, "SELECT ?a { <http://e/ann> <http://e/age> ?a FILTER(?a > 40) }"); got != "41" {
		t.Errorf("%s", got)
	}
	show := func(query string, want int, says ...string) {
		t.Helper()
		status, text, _ := ask(t, s, "GET", "/profile?"+query, "")
		if status != want {
			t.Errorf("%s: %d, want %d", query, status, want)
		}
		for _, one := range says {
			if !strings.Contains(text, one) {
				t.Errorf("%s: no %q in %s", query, one, text)
			}
		}
	}
	show("", 200, "http://e/ann", "http://e/bob")
	show("entity=http://e/ann", 200, "Facts that lead here", "http://e/bob", "41")
	show("entity=http://e/ann&as_of=2001-01-01", 200, "None then")
	show("as_of=2001", 422, "as_of")
	show("query="+url.QueryEscape("SELECT ?l { ?x <http://e/label> ?l }"), 200, "Anna")
	show("query="+url.QueryEscape("ASK {}"), 200, "Yes.")
	show("query=nonsense", 422, "want SELECT or ASK")
	form("retract", 200, "entity", "http://e/ann", "fact", "2")
	if got := sparql(t, s, "ASK { <http://e/ann> <http://e/age> ?a }"); got != "false" {
		t.Error("it is not retracted")
	}
	form("delete", 200, "entity", "http://e/ann", "fact", "1")
	form("delete", 200, "entity", "http://e/ann")
	if got := sparql(t, s, "ASK { ?x ?p ?o }"); got != "false" {
		t.Error("it is not deleted")
	}
}

// Who may only read changes nothing, on the page neither.
func TestProfileScopes(t *testing.T) {
	s := serve(t)
	asks(t, s, 200, "POST", profileFacts, ann)
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(asks(t, s, 201, "POST", "/api/auth/tokens", `{"name":"reader","scopes":["profile:read"]}`)), &token); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{
		{"POST", profileFacts, ann}, {"POST", "/api/profile/retract", `{"source":"test"}`}, {"DELETE", profileFacts + "/1", ""},
		{"DELETE", "/api/profile/entity?entity=http://e/ann", ""}, {"DELETE", "/api/profile/sources?source=test", ""},
		{"PUT", "/api/profile/schema/hints", `{"predicate":"http://e/p"}`}, {"DELETE", "/api/profile/schema/hints?predicate=http://e/p", ""},
		{"POST", "/profile/add", ""}, {"POST", "/profile/retract", ""}, {"POST", "/profile/delete", ""},
	} {
		if status, text, _ := ask(t, s, c[0], c[1], c[2], "Content-Type", "application/json", "Authorization", "Bearer "+token.Token); status != 403 {
			t.Errorf("%s %s: %d %s", c[0], c[1], status, text)
		}
	}
	for _, path := range []string{profileFacts, "/api/profile/schema", "/api/profile/graph", "/profile"} {
		if status, text, _ := ask(t, s, "GET", path, "", "Authorization", "Bearer "+token.Token); status != 200 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}
