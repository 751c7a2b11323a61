package toolshed_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/kv"
)

// Many writers at once wait for one another; none is refused.
func TestParallelWriters(t *testing.T) {
	const writers, each = 64, 60
	s := serve(t)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				path := fmt.Sprintf("/api/kv/w%02d", w)
				if status, text, _ := ask(t, s, "PUT", path, fmt.Sprint(i)); status != 204 {
					t.Errorf("PUT %s: %d %s", path, status, text)
				}
				if status, text, _ := ask(t, s, "GET", path, ""); status != 200 || text != fmt.Sprint(i) {
					t.Errorf("GET %s: %d %s, want %d", path, status, text, i)
				}
				if status, text, _ := ask(t, s, "PUT", "/api/kv/shared", "x"); status != 204 {
					t.Errorf("PUT shared: %d %s", status, text)
				}
			}
		})
	}
	all.Wait()
}

// The conditional headers, as RFC 9110 (13.1 and 13.2) has them.
func TestConditions(t *testing.T) {
	for _, c := range []struct {
		method, header, value string
		// missing and present are the answers where the key is missing, and
		// where it has the tag that TAG stands for.
		missing, present int
	}{
		{"PUT", "If-Match", `TAG`, 412, 204},
		{"PUT", "If-Match", `"other"`, 412, 412},
		{"PUT", "If-Match", `"other", TAG`, 412, 204},
		{"PUT", "If-Match", `"a,b" ,, TAG ,`, 412, 204},
		{"PUT", "If-Match", `W/TAG`, 412, 412},
		{"PUT", "If-Match", `*`, 412, 204},
		{"PUT", "If-None-Match", `*`, 204, 412},
		{"PUT", "If-None-Match", `TAG`, 204, 412},
		{"PUT", "If-None-Match", `W/TAG`, 204, 412},
		{"PUT", "If-None-Match", `"x", "y"`, 204, 204},
		{"PUT", "If-Match", `nonsense`, 400, 400},
		{"PUT", "If-Match", `"open`, 400, 400},
		{"PUT", "If-Match", `*, "x"`, 400, 400},
		{"PUT", "If-None-Match", `"x" "y"`, 400, 400},
		{"PUT", "If-None-Match", `,`, 400, 400},
		{"DELETE", "If-Match", `TAG`, 404, 204},
		{"DELETE", "If-Match", `"other"`, 404, 412},
		{"DELETE", "If-Match", `*`, 404, 204},
		{"DELETE", "If-Match", `nonsense`, 400, 400},
		{"DELETE", "If-None-Match", `*`, 404, 412},
		{"GET", "If-None-Match", `TAG`, 404, 304},
		{"GET", "If-None-Match", `W/TAG, "x"`, 404, 304},
		{"GET", "If-None-Match", `*`, 404, 304},
		{"GET", "If-None-Match", `"x"`, 404, 200},
		{"GET", "If-Match", `TAG`, 404, 200},
		{"GET", "If-Match", `"x"`, 404, 412},
		{"HEAD", "If-None-Match", `TAG`, 404, 304},
	} {
		t.Run(c.method+" "+c.header+" "+c.value, func(t *testing.T) {
			s := serve(t)
			tagged := func(tag string) string { return strings.ReplaceAll(c.value, "TAG", tag) }
			if status, text, _ := ask(t, s, c.method, "/api/kv/missing", "v", c.header, tagged(`"1"`)); status != c.missing {
				t.Errorf("missing: %d %s, want %d", status, text, c.missing)
			}
			_, _, h := ask(t, s, "PUT", "/api/kv/present", "v")
			status, text, answered := ask(t, s, c.method, "/api/kv/present", "w", c.header, tagged(h.Get("ETag")))
			if status != c.present {
				t.Errorf("present: %d %s, want %d", status, text, c.present)
			}
			if status == 304 && (text != "" || answered.Get("ETag") != h.Get("ETag")) {
				t.Errorf("304 with body %q and etag %s", text, answered.Get("ETag"))
			}
			if status == 400 {
				wantProblem(t, text, answered, 400, "bad-request")
				if !strings.Contains(text, c.header) {
					t.Errorf("%s does not name %s", text, c.header)
				}
			}
		})
	}
}

// A list in two header lines is one list.
func TestConditionInTwoLines(t *testing.T) {
	s := serve(t)
	_, _, h := ask(t, s, "PUT", "/api/kv/k", "v")
	if status, text, _ := ask(t, s, "PUT", "/api/kv/k", "w", "If-Match", `"x"`, "If-Match", h.Get("ETag")); status != 204 {
		t.Errorf("%d %s", status, text)
	}
}

// A version names one value for ever: who holds it cannot overwrite what was
// written after a delete.
func TestVersionsAreNotUsedAgain(t *testing.T) {
	s := serve(t)
	seen := map[string]bool{}
	for i := range 6 {
		_, _, h := ask(t, s, "PUT", "/api/kv/k", fmt.Sprint(i))
		tag := h.Get("ETag")
		if seen[tag] {
			t.Errorf("version %s is used again", tag)
		}
		seen[tag] = true
		if i%2 == 1 {
			ask(t, s, "DELETE", "/api/kv/k", "")
		}
	}
}

func TestKeysAreUTF8(t *testing.T) {
	s := serve(t)
	for _, request := range [][2]string{
		{"PUT", "/api/kv/%ff"}, {"GET", "/api/kv/%ff"}, {"DELETE", "/api/kv/a%C3"}, {"PUT", "/api/kv/~n:x"}, {"PUT", "/api/kv/a/"},
		{"GET", "/api/kv?prefix=%25ff"}, {"GET", "/api/kv?cursor=*"}, {"GET", "/api/kv?cursor=%zz"},
	} {
		status, text, h := ask(t, s, request[0], request[1], "")
		if status != 400 {
			t.Errorf("%s %s: %d %s", request[0], request[1], status, text)
			continue
		}
		wantProblem(t, text, h, 400, "bad-request")
	}
	if _, text, _ := ask(t, s, "PUT", "/api/kv/%ff", ""); !strings.Contains(text, "key") {
		t.Errorf("%s does not name the key", text)
	}
	for _, key := range []string{"grün", "日本", "\x00", "a\x00b", ".", "..", "%", "a b+c", strings.Repeat("k", kv.MaxKeyBytes-2)} {
		path := "/api/kv/" + strings.ReplaceAll(url.PathEscape(key), ".", "%2E")
		if status, text, _ := ask(t, s, "PUT", path, key); status != 204 {
			t.Errorf("PUT %q: %d %s", key, status, text)
		}
		if _, text, _ := ask(t, s, "GET", path, ""); text != key {
			t.Errorf("%q holds %q", key, text)
		}
	}
	if status, text, h := ask(t, s, "PUT", "/api/kv/"+strings.Repeat("%C3%BC", kv.MaxKeyBytes/2-1)+"k", ""); status != 422 {
		t.Errorf("a key of one byte too much: %d %s", status, text)
	} else {
		wantProblem(t, text, h, 422, "too-long")
	}
}

// Paging shows each key once and ends, whatever the keys are and from either
// end.
func TestPagingEnds(t *testing.T) {
	s := serve(t)
	paths := []string{
		"~x:", "~x:AA", "%00", "a", "a/b", "a/b/c", "a/~i:1", "a/~n:1", "a/~b:true", "a%00", "a%00b", "a\uffff", "b", "é", "\U0010ffff", "~i:-5", "~i:7", "~n:-1.5", "~b:false",
	}
	for _, path := range paths {
		if status, text, _ := ask(t, s, "PUT", "/api/kv/"+path, ""); status != 204 {
			t.Fatal(text)
		}
	}
	// Passed over, it would begin each page from the front.
	if status, text, _ := ask(t, s, "GET", "/api/kv?curser=a", ""); status != 422 {
		t.Errorf("a misspelt parameter: %d %s", status, text)
	}
	for query, want := range map[string][]string{
		"": paths, "prefix=a": paths[4:9], "prefix=a/b": {"a/b/c"}, "prefix=none": nil, "start=b": paths[12:], "end=a": paths[:3], "start=a&end=a%2500": paths[3:9],
		"prefix=a&start=a/~i:1": paths[6:9],
	} {
		for _, reverse := range []bool{false, true} {
			var got []string
			cursor := ""
			for range 2 * len(paths) {
				page := listed(t, s, fmt.Sprintf("limit=2&reverse=%t&cursor=%s&%s", reverse, cursor, query))
				for _, e := range page.Entries {
					unescaped, _ := url.PathUnescape(e.Path)
					got = append(got, unescaped)
				}
				if cursor = page.Cursor; cursor == "" {
					break
				}
			}
			if reverse {
				slices.Reverse(got)
			}
			var plain []string
			for _, path := range want {
				unescaped, _ := url.PathUnescape(path)
				plain = append(plain, unescaped)
			}
			if cursor != "" || !slices.Equal(got, plain) {
				t.Errorf("%s, reverse %t: %q, want %q", query, reverse, got, plain)
			}
		}
	}
}

// page is what a listing answers.
type page struct {
	Entries []kv.EntryJSON
	Cursor  string
}

func listed(t *testing.T, s, query string) (p page) {
	t.Helper()
	status, text, _ := ask(t, s, "GET", "/api/kv?"+query, "")
	if err := json.Unmarshal([]byte(text), &p); status != 200 || err != nil {
		t.Fatalf("%s: %d %s", query, status, text)
	}
	return p
}

func TestValueLimit(t *testing.T) {
	s := serve(t)
	full := strings.Repeat("x", kv.MaxValueBytes)
	if status, text, _ := ask(t, s, "PUT", "/api/kv/big", full); status != 204 {
		t.Errorf("exactly the limit: %d %s", status, text)
	}
	if _, text, _ := ask(t, s, "GET", "/api/kv/big", ""); text != full {
		t.Errorf("read %d bytes", len(text))
	}
	status, text, h := ask(t, s, "PUT", "/api/kv/big", full+"x")
	if status != 413 {
		t.Errorf("one byte more: %d %s", status, text)
	}
	wantProblem(t, text, h, 413, "too-large")
}

// What no API has, and a method that a path does not take, are problem
// documents too.
func TestUnroutedAreProblems(t *testing.T) {
	s := serve(t)
	status, text, h := ask(t, s, "GET", "/nothing", "")
	if status != 404 {
		t.Errorf("%d %s", status, text)
	}
	wantProblem(t, text, h, 404, "not-found")
	status, text, h = ask(t, s, "PATCH", "/api/kv/k", "")
	if status != 405 || !strings.Contains(h.Get("Allow"), "PUT") || !strings.Contains(h.Get("Allow"), "DELETE") {
		t.Errorf("%d, Allow %q: %s", status, h.Get("Allow"), text)
	}
	wantProblem(t, text, h, 405, "method-not-allowed")
	status, text, h = ask(t, s, "GET", "/api/kv/missing", "")
	if status != 404 {
		t.Errorf("%d %s", status, text)
	}
	wantProblem(t, text, h, 404, "not-found")
}

// The document says what is sent: bytes as they are.
func TestDocumentSaysBytes(t *testing.T) {
	s := serve(t)
	_, text, _ := ask(t, s, "GET", "/openapi.json", "")
	type content map[string]struct {
		Schema struct{ Type, Format, ContentEncoding string }
	}
	type operation struct {
		RequestBody struct {
			Required bool
			Content  content
		}
		Parameters []struct {
			Name, In string
			Schema   struct{ MinLength int }
		}
		Responses map[string]struct {
			Content content
			Headers map[string]any
		}
	}
	var document struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	item := document.Paths["/api/kv/{key}"]
	for _, p := range item["put"].Parameters {
		if strings.HasPrefix(p.Name, "If-") && p.Schema.MinLength != 1 {
			t.Errorf("an empty %s is said to be accepted", p.Name)
		}
	}
	for name, c := range map[string]content{
		"put": item["put"].RequestBody.Content, "get": item["get"].Responses["200"].Content,
	} {
		media, ok := c["application/octet-stream"]
		if len(c) != 1 || !ok || media.Schema.ContentEncoding != "" || media.Schema.Type != "string" || media.Schema.Format != "binary" {
			t.Errorf("%s sends %+v", name, c)
		}
	}
	if item["put"].RequestBody.Required {
		t.Error("an empty value is said to be refused")
	}
	for method, statuses := range map[string][]string{
		"get": {"304", "400", "404", "412"}, "put": {"400", "412", "413", "507"}, "delete": {"400", "404", "412"},
	} {
		for _, status := range statuses {
			r, ok := item[method].Responses[status]
			if _, isProblem := r.Content["application/problem+json"]; !ok || isProblem == (status == "304") {
				t.Errorf("%s: answer %s is %+v", method, status, r)
			}
		}
		var named []string
		for _, p := range item[method].Parameters {
			named = append(named, p.Name)
		}
		if all := strings.Join(named, " "); !strings.Contains(all, "If-Match") || !strings.Contains(all, "If-None-Match") {
			t.Errorf("%s takes %s", method, all)
		}
	}
	// And it is so: what is sent has the type that the document names.
	raw := "\x00\xff not base64"
	ask(t, s, "PUT", "/api/kv/raw", raw, "Content-Type", "application/octet-stream")
	if _, text, h := ask(t, s, "GET", "/api/kv/raw", ""); text != raw || h.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%q of %s", text, h.Get("Content-Type"))
	}
}
