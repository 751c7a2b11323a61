package toolshed_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/toolshed-cloud/shed/toolshed/kv/pb"
)

// Values keep what they are, as JSON, counters, bytes and V8's form.
func TestKVValues(t *testing.T) {
	s := serve(t)
	for _, c := range []struct {
		path, body, contentType, encoding string
		wantType, want                    string
	}{
		{"json", ` {"b": 1,"a":[1.5,"ü",null]}`, "application/json", "", "application/json", `{"b":1,"a":[1.5,"ü",null]}`},
		{"counter", "18446744073709551615", "", "u64", "application/json", "18446744073709551615"},
		{"v8", "\xff\x0fI\x54", "application/x-v8", "", "application/json", "42"},
		{"bigint", "\xff\x0fZ\x10\x01\x00\x00\x00\x00\x00\x00\x00", "application/x-v8", "", "application/x-v8", "\xff\x0fZ\x10\x01\x00\x00\x00\x00\x00\x00\x00"},
		{"form", "a=b", "application/x-www-form-urlencoded", "", "application/octet-stream", "a=b"},
		{"~n:1.5/~b:true/~i:-7/~x:AAE", "typed", "", "", "application/octet-stream", "typed"},
	} {
		header := []string{"Content-Type", c.contentType}
		if c.encoding != "" {
			header = append(header, "Shed-Kv-Encoding", c.encoding)
		}
		if status, text, _ := ask(t, s, "PUT", "/api/kv/"+c.path, c.body, header...); status != 204 {
			t.Errorf("%s: %d %s", c.path, status, text)
		}
		if _, text, h := ask(t, s, "GET", "/api/kv/"+c.path, ""); text != c.want || h.Get("Content-Type") != c.wantType {
			t.Errorf("%s: %q of %s", c.path, text, h.Get("Content-Type"))
		}
	}
	for _, c := range [][3]string{{"{", "application/json", "v8"}, {"-1", "", "u64"}, {"x", "", "u65"}} {
		if status, text, _ := ask(t, s, "PUT", "/api/kv/bad", c[0], "Content-Type", c[1], "Shed-Kv-Encoding", c[2]); status != 422 {
			t.Errorf("%q: %d %s", c, status, text)
		}
	}
	if status, text, _ := ask(t, s, "PUT", "/api/kv/bad?expire_in=-1s", "x"); status != 422 || !strings.Contains(text, "expire_in") {
		t.Errorf("%d %s", status, text)
	}
	p := listed(t, s, "key=counter&key=missing")
	if len(p.Entries) != 2 || *p.Entries[0].U64 != "18446744073709551615" {
		t.Errorf("%+v", p)
	}
}

// An atomic write does all or nothing, and names what is wrong.
func TestKVAtomic(t *testing.T) {
	s := serve(t)
	write := func(body string) (int, string) {
		t.Helper()
		status, text, _ := ask(t, s, "POST", "/api/kv", body, "Content-Type", "application/json")
		return status, text
	}
	status, text := write(`{"checks": [{"key": ["n"], "versionstamp": null}], "mutations": [
		{"type": "set", "key": ["n"], "u64": "5"}, {"type": "sum", "key": ["n"], "u64": "2"}, {"type": "append", "key": ["log"], "value": {"a": 1}},
		{"type": "set", "key": ["b", {"bytes": "AAE="}, {"bigint": "7"}], "bigint": "123456789012345678901234567890"}]}`)
	var done struct{ Versionstamp string }
	if err := json.Unmarshal([]byte(text), &done); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if _, text, _ := ask(t, s, "GET", "/api/kv/n", ""); text != "7" {
		t.Errorf("the sum is %s", text)
	}
	if p := listed(t, s, "prefix=log"); len(p.Entries) != 1 || p.Entries[0].Path != "log/"+done.Versionstamp || string(p.Entries[0].JSON) != `{"a":1}` {
		t.Errorf("%+v", p)
	}
	if p := listed(t, s, "prefix=b"); len(p.Entries) != 1 || p.Entries[0].Bigint == nil || *p.Entries[0].Bigint != "123456789012345678901234567890" {
		t.Errorf("%+v", p)
	}
	for body, want := range map[string]struct {
		status int
		says   string
	}{
		`{"checks": [{"key": ["m"], "versionstamp": null}, {"key": ["n"], "versionstamp": null}], "mutations": [{"type": "delete", "key": ["n"]}]}`: {412, "checks[1]"},
		`{"mutations": [{"type": "set", "key": ["x"], "value": 1}, {"type": "set", "key": []}]}`:                                                    {422, "mutations[1].key"},
		`{"mutations": [{"type": "set", "key": ["x"]}]}`:                                                                                            {422, "mutations[0]"},
		`{"mutations": [{"type": "set", "key": ["x"], "value": 1, "u64": "1"}]}`:                                                                    {422, "mutations[0]"},
		`{"mutations": [{"type": "min", "key": ["x"], "value": 1}]}`:                                                                                {422, "mutation 0"},
		`{"mutations": [{"type": "put", "key": ["x"], "value": 1}]}`:                                                                                {422, "type"},
		`{"checks": [{"key": ["x"], "versionstamp": "12"}]}`:                                                                                        {422, "checks[0].versionstamp"},
		`{"enqueues": [{"bytes": "AA=="}]}`:                                                                                                         {422, "enqueues[0]"},
		`{"enqueues": [{"value": 1, "backoff_ms": [99999999]}]}`:                                                                                    {422, "enqueues[0].backoff_ms"},
		`{"mutations": [{"type": "set", "key": ["x"], "value": ` + nested(200) + `}]}`:                                                              {422, "mutations[0]"},
	} {
		if status, text := write(body); status != want.status || !strings.Contains(text, want.says) {
			t.Errorf("%.80s: %d %s", body, status, text)
		}
	}
	if status, _, _ := ask(t, s, "GET", "/api/kv/x", ""); status != 404 {
		t.Errorf("something of a refused write was done: %d", status)
	}
}

// Messages take the queue's own scope, by either protocol; keys do not.
func TestMessagesOfAtomicWritesTakeAScope(t *testing.T) {
	s := serve(t)
	var token struct{ Token string }
	_, minted, _ := ask(t, s, "POST", "/api/auth/tokens", `{"name":"x","scopes":["kv:*"]}`, "Content-Type", "application/json")
	if err := json.Unmarshal([]byte(minted), &token); err != nil {
		t.Fatal(err)
	}
	less := []string{"Authorization", "Bearer " + token.Token, "Content-Type", "application/json"}
	if status, text, _ := ask(t, s, "POST", "/api/kv", `{"enqueues": [{"value": 1}]}`, less...); status != 403 || !strings.Contains(text, "queue:write") {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := ask(t, s, "POST", "/api/kv", `{"mutations": [{"type": "set", "key": ["a"], "value": 1}]}`, less...); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	_, text, _ := ask(t, s, "POST", "/kv", `{"supportedVersions": [3]}`, less...)
	var metadata struct{ DatabaseID string }
	if err := json.Unmarshal([]byte(text), &metadata); err != nil {
		t.Fatal(err, text)
	}
	b, err := proto.Marshal(&pb.AtomicWrite{Enqueues: []*pb.Enqueue{{Payload: []byte("\xff\x0fI\x02")}}})
	if err != nil {
		t.Fatal(err)
	}
	connect := append(less[:2:2], "X-Denokv-Version", "3", "X-Denokv-Database-Id", metadata.DatabaseID)
	if status, text, _ := ask(t, s, "POST", "/kv/connect/atomic_write", string(b), connect...); status != 403 || !strings.Contains(text, "queue:write") {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := ask(t, s, "POST", "/kv/connect/atomic_write", string(b), connect[2:]...); status != 200 {
		t.Errorf("its owner: %d %s", status, text)
	}
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// A feed says what keys hold, and then what changes, as lines or as events.
func TestKVWatch(t *testing.T) {
	s := serve(t)
	ask(t, s, "PUT", "/api/kv/a/b", "1", "Content-Type", "application/json")
	for accept, prefix := range map[string]string{"": "", "text/event-stream": "data: "} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s+"/api/kv:watch?key=a/b&key=c"+strings.ReplaceAll(accept, "/", ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		next := func() string {
			for lines.Scan() {
				if line, ok := strings.CutPrefix(lines.Text(), prefix); ok && line != "" {
					return line
				}
			}
			return "the feed ended"
		}
		if line := next(); !strings.Contains(line, `"path":"a/b","entry":{`) || !strings.Contains(line, `"entry":null`) {
			t.Errorf("%s: at first %s", accept, line)
		}
		ask(t, s, "PUT", "/api/kv/a/b", `"new`+accept+`"`, "Content-Type", "application/json")
		if line := next(); !strings.Contains(line, `"value":"new`+accept+`"`) || strings.Contains(line, "null") {
			t.Errorf("%s: then %s", accept, line)
		}
		resp.Body.Close()
	}
}

// The queue over HTTP: a message with a delay, given back, and dead.
func TestQueueOverHTTP(t *testing.T) {
	s := serve(t)
	want := func(status int, method, path, body string, header ...string) string {
		t.Helper()
		got, text, _ := ask(t, s, method, path, body, header...)
		if got != status {
			t.Errorf("%s %s: %d %s, want %d", method, path, got, text, status)
		}
		return text
	}
	want(201, "POST", "/api/queue/mail?delay=1ms&backoff=0s", `{"to": "anna"}`, "Content-Type", "application/json", "Idempotency-Key", "k")
	if text := want(200, "POST", "/api/queue/mail?backoff=0s", `{"to": "anna"}`, "Content-Type", "application/json", "Idempotency-Key", "k"); !strings.Contains(text, `"duplicate":true`) {
		t.Error(text)
	}
	want(422, "POST", "/api/queue/mail", `{"to": "berta"}`, "Content-Type", "application/json", "Idempotency-Key", "k")
	for range 2 {
		var got struct {
			Messages []struct {
				ID, Receipt string
				Value       json.RawMessage
			}
		}
		text := want(200, "POST", "/api/queue/mail/receive?wait=10s&max=5", "")
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Messages) != 1 || string(got.Messages[0].Value) != `{"to":"anna"}` {
			t.Fatalf("%s", text)
		}
		m := got.Messages[0]
		path := "/api/queue/mail/messages/" + m.ID
		want(200, "POST", path+"/extend?lease=1m&receipt="+m.Receipt, "")
		if text := want(200, "GET", path, ""); strings.Contains(text, m.Receipt) {
			t.Errorf("the receipt is shown: %s", text)
		}
		want(409, "POST", path+"/ack?receipt=wrong", "")
		want(204, "POST", path+"/nack?receipt="+m.Receipt, `{"error": "<b>no</b>"}`, "Content-Type", "application/json")
		want(409, "POST", path+"/ack?receipt="+m.Receipt, "")
	}
	if text := want(200, "GET", "/api/queue/mail?state=dead", ""); !strings.Contains(text, `"state":"dead"`) {
		t.Error(text)
	}
	if text := want(200, "GET", "/queue", ""); !strings.Contains(text, "Failed in mail") || !strings.Contains(text, "&lt;b&gt;no") {
		t.Errorf("the page: %s", text)
	}
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	if text := want(200, "POST", "/queue/retry", "queue=mail&id=1", form...); !strings.Contains(text, "Waiting in mail") || !strings.Contains(text, "attempt 1 from") {
		t.Errorf("after trying again: %s", text)
	}
	want(200, "POST", "/queue/delete", "queue=mail&id=1", form...)
	want(404, "POST", "/queue/delete", "queue=mail&id=1", form...)

	want(200, "PUT", "/api/cron/nightly?queue=mail&schedule="+url.QueryEscape("30 4 * * mon-fri"), "tick")
	want(422, "PUT", "/api/cron/nightly?queue=mail&schedule=never", "tick")
	if text := want(200, "GET", "/queue", ""); !strings.Contains(text, "30 4 * * mon-fri") {
		t.Errorf("the page: %s", text)
	}
	want(204, "DELETE", "/api/cron/nightly", "")
	want(404, "DELETE", "/api/cron/nightly", "")
	for _, path := range []string{"/api/queue/A", "/api/queue/q?priority=10", "/api/queue/q?backoff=x", "/api/queue/q?at=now", "/api/queue/q?dealy=1s"} {
		want(422, "POST", path, "x")
	}
	want(422, "POST", "/api/queue/q/receive?max=101", "")
	want(422, "POST", "/api/queue/q/receive?lease=1ms", "")
	want(413, "POST", "/api/queue/q", strings.Repeat("x", 1<<20+1))
}

// The pages write what they show, and not over what another wrote.
func TestKVPages(t *testing.T) {
	s := serve(t)
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	save := func(values ...string) (int, string) {
		v := url.Values{}
		for i := 0; i < len(values); i += 2 {
			v.Set(values[i], values[i+1])
		}
		status, text, _ := ask(t, s, "POST", "/kv/save", v.Encode(), form...)
		return status, text
	}
	if status, text := save("key", "a/b c", "kind", "json", "value", `{"x": "<i>"}`); status != 200 || !strings.Contains(text, "&lt;i&gt;") {
		t.Errorf("%d %s", status, text)
	}
	_, text, _ := ask(t, s, "GET", "/kv?prefix=a", "")
	if !strings.Contains(text, "a/b%20c") || strings.Contains(text, "<i>") {
		t.Errorf("%s", text)
	}
	if status, text := save("key", "a/b c", "kind", "text", "value", "over"); status != 412 || !strings.Contains(text, `role="alert"`) {
		t.Errorf("over another's: %d %s", status, text)
	}
	for _, bad := range [][]string{{"key", "", "kind", "text"}, {"key", "k", "kind", "u64", "value", "x"}, {"key", "k", "kind", "none"}, {"key", "k", "kind", "text", "expire_in", "x"}, {"key", "k", "kind", "text", "versionstamp", "x"}} {
		if status, text := save(bad...); status < 400 || status >= 500 || !strings.Contains(text, `role="alert"`) {
			t.Errorf("%q: %d", bad, status)
		}
	}
	_, _, h := ask(t, s, "GET", "/api/kv/a/b%20c", "")
	if status, text, _ := ask(t, s, "POST", "/kv/remove", "key=a/b%2520c&versionstamp="+strings.Trim(h.Get("ETag"), `"`), form...); status != 200 || !strings.Contains(text, "There are none.") {
		t.Errorf("%d %s", status, text)
	}
}

// The pages with something on them, and what they lead to, pass axe too.
func TestKVAndQueuePagesPassAxe(t *testing.T) {
	axe := os.Getenv("SHED_AXE")
	if axe == "" {
		t.Skip("SHED_AXE names no axe.min.js; make test sets it")
	}
	s := serve(t)
	ask(t, s, "PUT", "/api/kv/a/"+strings.Repeat("long", 50)+"?expire_in=1h", strings.Repeat("x", 500))
	ask(t, s, "PUT", "/api/kv/b", `{"x": [1]}`, "Content-Type", "application/json")
	ask(t, s, "PUT", "/api/cron/nightly?queue=mail&schedule="+url.QueryEscape("0 3 * * *"), "tick")
	ask(t, s, "POST", "/api/queue/mail?backoff=none", strings.Repeat("x", 500))
	ask(t, s, "POST", "/api/queue/mail?delay=1h", "later")
	_, text, _ := ask(t, s, "POST", "/api/queue/mail/receive", "")
	receipt := regexp.MustCompile(`"receipt":"([0-9a-f]+)"`).FindStringSubmatch(text)
	if receipt == nil {
		t.Fatal(text)
	}
	ask(t, s, "POST", "/api/queue/mail/messages/1/nack?receipt="+receipt[1], "")
	ask(t, s, "POST", "/api/queue/mail", "worked on")
	ask(t, s, "POST", "/api/queue/mail/receive", "")
	at := judged(t, s, axe)
	for _, path := range []string{"/kv", "/kv?prefix=%25zz", "/kv/edit", "/kv/edit?key=b", "/kv/edit?key=none", "/queue", "/queue?queue=mail"} {
		for _, found := range axeSays(t, at, path) {
			t.Errorf("%s: %s", path, found)
		}
	}
}
