package toolshed_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// asks answers what a JSON request is answered, and sees its status.
func asks(t *testing.T, s string, want int, method, path, body string, header ...string) string {
	t.Helper()
	kind := "application/json"
	status, text, _ := ask(t, s, method, path, body, append(header, "Content-Type", kind)...)
	if status != want {
		t.Errorf("%s %s %s: %d %.400s, want %d", method, path, body, status, text, want)
	}
	return text
}

const people = "/api/data/collections/people"

func TestDocuments(t *testing.T) {
	s := serve(t)
	asks(t, s, 404, "GET", people+"/documents/ann", "")
	asks(t, s, 200, "PUT", people+"/documents/ann", `{"name": "Ann", "age": 41, "tags": ["a", "b"]}`, "If-None-Match", "*")
	asks(t, s, 412, "PUT", people+"/documents/ann", `{}`, "If-None-Match", "*")
	if text := asks(t, s, 200, "GET", people+"/documents/ann", ""); !strings.Contains(text, `"version":1`) || !strings.Contains(text, `{"name":"Ann","age":41,"tags":["a","b"]}`) {
		t.Errorf("%s", text)
	}
	asks(t, s, 412, "PATCH", people+"/documents/ann", `{"age": 42}`, "If-Match", `"7"`)
	if text := asks(t, s, 200, "PATCH", people+"/documents/ann", `{"age": 42, "tags": null}`, "If-Match", `"1"`); !strings.Contains(text, `{"name":"Ann","age":42}`) {
		t.Errorf("%s", text)
	}
	asks(t, s, 404, "PATCH", people+"/documents/bob", `{}`)
	for _, body := range []string{`[]`, `7`, `{"a":1,"a":2}`, `{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`} {
		asks(t, s, 422, "PUT", people+"/documents/x", body)
	}
	asks(t, s, 422, "PUT", "/api/data/collections/UP/documents/x", `{}`)
	asks(t, s, 422, "PUT", people+"/documents/x%27", `{}`)
	asks(t, s, 201, "POST", people+"/documents", `{"name": "nobody"}`)
	asks(t, s, 204, "DELETE", people+"/documents/ann", "")
	asks(t, s, 404, "DELETE", people+"/documents/ann", "")
	asks(t, s, 204, "DELETE", people, "")
	asks(t, s, 404, "DELETE", people, "")
}

func ids(t *testing.T, text string) string {
	t.Helper()
	var page struct {
		Documents []struct{ ID string }
		Next      *int
	}
	if err := json.Unmarshal([]byte(text), &page); err != nil {
		t.Fatalf("%v %s", err, text)
	}
	var all []string
	for _, d := range page.Documents {
		all = append(all, d.ID)
	}
	if page.Next != nil {
		all = append(all, fmt.Sprint("next:", *page.Next))
	}
	return strings.Join(all, " ")
}

// Filters answer as MongoDB's do; an index changes nothing of it.
func TestQueries(t *testing.T) {
	s := serve(t)
	for id, body := range map[string]string{
		"ann": `{"name":"Ann","age":41,"tags":["x","y"],"home":{"town":"Ulm"},"ok":true}`,
		"bob": `{"name":"Bob","age":7.5,"tags":[],"home":{"town":"Bern"},"ok":false}`,
		"cyd": `{"name":"Cyd","age":"old","tags":"x","ok":1,"gone":null}`,
		"dee": `{"name":"Dee's \"x\"","age":41,"home":{"town":"Ulm","at":[1,{"b":2}]}}`,
	} {
		asks(t, s, 200, "PUT", people+"/documents/"+id, body)
	}
	for round, declared := range []string{"", `{"indexes":[{"path":"age"},{"path":"home.town"},{"path":"name","unique":true}]}`} {
		if declared != "" {
			asks(t, s, 204, "PUT", people, declared)
		}
		for filter, want := range map[string]string{
			`{}`: "ann bob cyd dee", `{"age":41}`: "ann dee", `{"age":{"$gt":7}}`: "ann bob dee", `{"age":{"$gte":7.5,"$lt":41}}`: "bob",
			`{"age":{"$gt":"a"}}`: "cyd", `{"age":{"$ne":41}}`: "bob cyd", `{"home.town":"Ulm"}`: "ann dee", `{"home.town":{"$ne":"Ulm"}}`: "bob cyd",
			`{"ok":true}`: "ann", `{"ok":1}`: "cyd", `{"ok":null}`: "dee", `{"gone":null}`: "ann bob cyd dee", `{"gone":{"$exists":true}}`: "cyd",
			`{"tags":{"$all":["x"]}}`: "ann", `{"tags":["x","y"]}`: "ann", `{"tags":{"$size":0}}`: "bob", `{"home.at.1.b":2}`: "dee",
			`{"$or":[{"age":7.5},{"name":"Ann"}]}`: "ann bob", `{"$nor":[{"age":7.5},{"name":"Ann"}]}`: "cyd dee",
			`{"$and":[{"age":41},{"ok":{"$exists":false}}]}`: "dee", `{"age":{"$in":[7.5,"old",null]}}`: "bob cyd", `{"age":{"$nin":[7.5,"old"]}}`: "ann dee",
			`{"age":{"$not":{"$gt":10}}}`: "bob cyd", `{"name":"Dee's \"x\""}`: "dee", `{"name":"' OR 1=1 --"}`: "", `{"home":{"town":"Bern"}}`: "bob",
		} {
			if got := ids(t, asks(t, s, 200, "POST", people+"/query", `{"filter":`+filter+`}`)); got != want {
				t.Errorf("round %d: %s: %q, want %q", round, filter, got, want)
			}
		}
		if got := ids(t, asks(t, s, 200, "POST", people+"/query", `{"sort":["-home.town","-name"],"limit":2}`)); got != "dee ann next:2" {
			t.Errorf("sorted: %q", got)
		}
		if got := ids(t, asks(t, s, 200, "POST", people+"/query", `{"sort":["-home.town","-name"],"limit":2,"skip":2}`)); got != "bob cyd" {
			t.Errorf("the next page: %q", got)
		}
		if text := asks(t, s, 200, "POST", people+"/query", `{"filter":{"age":41},"count":true}`); !strings.Contains(text, `"count":2`) {
			t.Errorf("%s", text)
		}
	}
	for _, filter := range []string{
		`[]`, `{"$where":"1"}`, `{"a'b":1}`, `{"a":{"$regex":"x"}}`, `{"a":{"$gt":true}}`, `{"$or":[]}`, `{"a":{"$in":1}}`, `{"a.":1}`, `{"a":{"$gt":1,"$gt":2}}`,
	} {
		if text := asks(t, s, 422, "POST", people+"/query", `{"filter":`+filter+`}`); !strings.Contains(text, "filter") {
			t.Errorf("%s: no field: %s", filter, text)
		}
	}
	asks(t, s, 409, "PUT", people+"/documents/eve", `{"name":"Ann"}`)
	asks(t, s, 204, "PUT", people, `{"indexes":[],"schema":{"type":"object","required":["name"],"properties":{"name":{"type":"string"}}}}`)
	asks(t, s, 200, "PUT", people+"/documents/eve", `{"name":"Ann"}`)
	if text := asks(t, s, 422, "PUT", people+"/documents/eve", `{"name":7}`); !strings.Contains(text, "schema") {
		t.Errorf("%s", text)
	}
	asks(t, s, 409, "PUT", people, `{"indexes":[{"path":"name","unique":true}]}`)
	asks(t, s, 422, "PUT", people, `{"schema":{"type":"nonsense"}}`)
	asks(t, s, 422, "PUT", people, `{"schema":{"$ref":"http://127.0.0.1/x"}}`)
}

// All of a transaction or nothing.
func TestTransactions(t *testing.T) {
	s := serve(t)
	const path = "/api/data/transactions"
	asks(t, s, 200, "POST", path, `{"operations":[{"op":"put","collection":"a","id":"x","document":{"n":1},"if_version":0},{"op":"put","collection":"b","id":"y","document":{"n":2}}]}`)
	text := asks(t, s, 412, "POST", path, `{"operations":[{"op":"put","collection":"a","id":"z","document":{}},{"op":"check","collection":"b","id":"y","if_version":1}]}`)
	if !strings.Contains(text, "operations[1]") {
		t.Errorf("%s", text)
	}
	asks(t, s, 404, "GET", "/api/data/collections/a/documents/z", "")
	asks(t, s, 200, "POST", path, `{"operations":[{"op":"patch","collection":"a","id":"x","document":{"n":3},"if_version":1},{"op":"delete","collection":"b","id":"y"}]}`)
	// Of those who add to the same number none is lost.
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				_, text, h := ask(t, s, "GET", "/api/data/collections/a/documents/x", "")
				var d struct{ Document struct{ N int } }
				if err := json.Unmarshal([]byte(text), &d); err != nil {
					t.Error(err)
					return
				}
				status, _, _ := ask(t, s, "PUT", "/api/data/collections/a/documents/x", fmt.Sprintf(`{"n":%d}`, d.Document.N+1), "If-Match", h.Get("ETag"), "Content-Type", "application/json")
				if status != 412 {
					return
				}
			}
		})
	}
	all.Wait()
	if text := asks(t, s, 200, "GET", "/api/data/collections/a/documents/x", ""); !strings.Contains(text, `{"n":11}`) {
		t.Errorf("%s", text)
	}
}

// The feed has each change once, and goes on where it was left.
func TestChanges(t *testing.T) {
	s := serve(t)
	asks(t, s, 200, "PUT", people+"/documents/a", `{"n":1}`)
	asks(t, s, 200, "PUT", people+"/documents/b", `{"n":2}`)
	asks(t, s, 204, "DELETE", people+"/documents/a", "")
	text := asks(t, s, 200, "GET", "/api/data/changes?limit=2&documents=true", "")
	if !strings.Contains(text, `"next":2`) || !strings.Contains(text, `{"n":2}`) || strings.Contains(text, `{"n":1}`) {
		t.Errorf("%s", text)
	}
	if text := asks(t, s, 200, "GET", "/api/data/changes?after=2", ""); !strings.Contains(text, `"op":"delete"`) || !strings.Contains(text, `"next":3`) {
		t.Errorf("%s", text)
	}
	if text := asks(t, s, 200, "GET", "/api/data/changes?after=3", ""); !strings.Contains(text, `"changes":[]`) {
		t.Errorf("%s", text)
	}
	waited := make(chan string)
	go func() {
		_, text, _ := ask(t, s, "GET", "/api/data/changes?after=3&collection=pets&wait=60", "")
		waited <- text
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s+"/api/data/changes?after=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{`"version":2`, `"version":3`} {
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Errorf("%s, want %s", lines.Text(), want)
		}
	}
	asks(t, s, 200, "PUT", people+"/documents/c", `{}`)
	asks(t, s, 200, "PUT", "/api/data/collections/pets/documents/d", `{}`)
	for _, want := range []string{`"version":4`, `"version":5`} {
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Errorf("%s, want %s", lines.Text(), want)
		}
	}
	if text := <-waited; !strings.Contains(text, `"collection":"pets"`) || strings.Contains(text, `"collection":"people"`) {
		t.Errorf("waited for %s", text)
	}
}

// The page shows what there is, as text, and says what is wrong with a filter.
func TestDataPage(t *testing.T) {
	s := serve(t)
	for i := range 30 {
		asks(t, s, 200, "PUT", fmt.Sprintf("%s/documents/p%02d", people, i), fmt.Sprintf(`{"n":%d,"x":"<script>"}`, i))
	}
	find := func(want int, query string) string {
		t.Helper()
		status, text, _ := ask(t, s, "GET", "/data?"+query, "")
		if status != want {
			t.Errorf("%s: %d, want %d", query, status, want)
		}
		return text
	}
	if text := find(200, ""); !strings.Contains(text, "people (30)") {
		t.Errorf("%s", text)
	}
	if text := find(200, "collection=people&sort=-n"); !strings.Contains(text, "p29") || strings.Contains(text, "p04") || strings.Contains(text, "<script>") || !strings.Contains(text, "skip=25") {
		t.Errorf("%s", text)
	}
	if text := find(200, "collection=people&sort=-n&skip=25"); !strings.Contains(text, "p04") || strings.Contains(text, "Next page") {
		t.Errorf("%s", text)
	}
	if text := find(422, "collection=people&filter=%7B%22a%22"); !strings.Contains(text, `role="alert"`) {
		t.Errorf("%s", text)
	}
}

// Paths that differ in case are two indexes.
func TestDataIndexesOfEitherCase(t *testing.T) {
	s := serve(t)
	const both = `{"indexes":[{"path":"a"},{"path":"A","unique":true}]}`
	for range 2 {
		if status, text, _ := ask(t, s, "PUT", "/api/data/collections/people", both, "Content-Type", "application/json"); status/100 != 2 {
			t.Fatalf("%d %s", status, text)
		}
	}
	for body, want := range map[string]int{`{"a":1,"A":1}`: 201, `{"a":1,"A":2}`: 201} {
		if status, text, _ := ask(t, s, "POST", "/api/data/collections/people/documents", body, "Content-Type", "application/json"); status != want {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	if status, text, _ := ask(t, s, "POST", "/api/data/collections/people/documents", `{"a":3,"A":2}`, "Content-Type", "application/json"); status != 409 {
		t.Errorf("twice: %d %s", status, text)
	}
}
