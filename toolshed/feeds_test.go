package toolshed_test

import (
	"fmt"
	"strings"
	"testing"
)

// What is written to the data is told, a transaction at a time, and without the
// documents.
func TestDataFeed(t *testing.T) {
	s := serve(t)
	l := listen(t, s, "topic=feed/data")
	told := func(want ...string) {
		t.Helper()
		e := l.next("message")
		for _, one := range want {
			if !strings.Contains(string(e.Data), one) {
				t.Errorf("no %s in %.400s", one, e.Data)
			}
		}
		if strings.Contains(string(e.Data), "secret") {
			t.Errorf("%.400s", e.Data)
		}
	}
	asks(t, s, 200, "PUT", people+"/documents/ann", `{"secret": 1}`)
	told(`{"changes":[{"version":1,"collection":"people","id":"ann","op":"put","at":"`)
	asks(t, s, 200, "POST", "/api/data/transactions", `{"operations": [{"op": "check", "collection": "people", "id": "ann"},
		{"op": "patch", "collection": "people", "id": "ann", "document": {"secret": 2}}, {"op": "delete", "collection": "people", "id": "ann"}]}`)
	told(`"version":2,"collection":"people","id":"ann","op":"put"`, `"version":3,"collection":"people","id":"ann","op":"delete"`)
	// What is refused is not told.
	asks(t, s, 412, "PUT", people+"/documents/ann", `{}`, "If-Match", `"7"`)
	asks(t, s, 204, "DELETE", people, "")
	told(`"version":4,"collection":"people","op":"drop"`)
	var operations []string
	for i := range 150 {
		operations = append(operations, fmt.Sprintf(`{"op": "put", "collection": "people", "id": "p%d", "document": {}}`, i))
	}
	asks(t, s, 200, "POST", "/api/data/transactions", `{"operations": [`+strings.Join(operations, ",")+`]}`)
	told(`"id":"p99"`, `"more":true`)
}

// Uploads are told once they are whole.
func TestBlobsFeed(t *testing.T) {
	s := serve(t)
	l := listen(t, s, "topic=feed/blobs")
	if status, text, _ := ask(t, s, "POST", "/api/blobs?name=a.txt", "some text", "Content-Type", "text/plain"); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	e := l.next("message")
	for _, want := range []string{`"sha256":"`, `"size_bytes":9`, `"name":"a.txt"`} {
		if !strings.Contains(string(e.Data), want) {
			t.Errorf("no %s in %s", want, e.Data)
		}
	}
}
