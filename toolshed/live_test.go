package toolshed_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

type liveEvent struct {
	ID, Kind, Topic, Ref string
	Data                 json.RawMessage
	Error                *struct{ Code string }
}

// listener reads server-sent events.
type listener struct {
	t     *testing.T
	lines *bufio.Scanner
	stop  func()
}

func listen(t *testing.T, url, query string, header ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/live/events?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	stop := func() { cancel(); resp.Body.Close() }
	t.Cleanup(stop)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	return &listener{t, bufio.NewScanner(resp.Body), stop}
}

// next is the next event of a kind.
func (l *listener) next(kind string) (e liveEvent) {
	l.t.Helper()
	for l.lines.Scan() {
		if data, ok := strings.CutPrefix(l.lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				l.t.Fatal(err)
			}
			if e.Kind == kind {
				return e
			}
		}
	}
	l.t.Fatalf("no more events: %v", l.lines.Err())
	return e
}

func publishLive(t *testing.T, url, topic, data string) {
	t.Helper()
	if status, text, _ := ask(t, url, "POST", "/api/live/publish", fmt.Sprintf(`{"topic":%q,"data":%s}`, topic, data), "Content-Type", "application/json"); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
}

// Who loses its connection asks for what it missed, and gets that and no more.
func TestLiveResume(t *testing.T) {
	s := serve(t)
	l := listen(t, s, "topic=news&topic=other&as=ann")
	if p := l.next("presence"); !strings.Contains(string(p.Data), `"as":"ann"`) {
		t.Errorf("%s", p.Data)
	}
	publishLive(t, s, "news", `{"n":1}`)
	publishLive(t, s, "elsewhere", `0`)
	publishLive(t, s, "other", `[2]`)
	first := l.next("message")
	if second := l.next("message"); string(first.Data) != `{"n":1}` || second.Topic != "other" || string(second.Data) != `[2]` {
		t.Errorf("%+v, %+v", first, second)
	}
	if _, text, _ := ask(t, s, "GET", "/api/live/presence?topic=news", ""); !strings.Contains(text, `"as":"ann"`) {
		t.Errorf("presence: %s", text)
	}
	l.stop()
	publishLive(t, s, "news", `3`)
	again := listen(t, s, "topic=news&topic=other", "Last-Event-ID", first.ID)
	if a, b := again.next("message"), again.next("message"); string(a.Data) != "[2]" || string(b.Data) != "3" {
		t.Errorf("again: %+v, %+v", a, b)
	}
	listen(t, s, "topic=news", "Last-Event-ID", "other-1").next("gap")
	for query, want := range map[string]int{"": 422, "topic=A": 422, "topic=a&after=x": 422, "topic=a&nonsense=1": 422, "topic=a&as=%00": 422, "topic=%zz": 400} {
		if status, text, _ := ask(t, s, "GET", "/api/live/events?"+query, ""); status != want {
			t.Errorf("%q: %d %s", query, status, text)
		}
	}
	if status, text, _ := ask(t, s, "POST", "/api/live/publish", `{"topic":"feed/functions","data":1}`, "Content-Type", "application/json"); status != 403 || !strings.Contains(text, `"code":"feed"`) {
		t.Errorf("publishing on a feed: %d %s", status, text)
	}
}

func TestLiveSocket(t *testing.T) {
	s := serve(t)
	dial := func(query string, h http.Header) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(t.Context(), s+"/api/live/socket"+query, &websocket.DialOptions{HTTPHeader: h})
	}
	if _, resp, err := dial("", http.Header{"Origin": {"https://evil.example"}}); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("from another site: %v", err)
	}
	c, _, err := dial("?topic=a&as=ben", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Replies and events come in an order of their own each.
	unread := map[string][]liveEvent{}
	next := func(kind string) liveEvent {
		t.Helper()
		for len(unread[kind]) == 0 {
			var e liveEvent
			if err := wsjson.Read(ctx, c, &e); err != nil {
				t.Fatalf("waiting for a %s: %v", kind, err)
			}
			unread[e.Kind] = append(unread[e.Kind], e)
		}
		e := unread[kind][0]
		unread[kind] = unread[kind][1:]
		return e
	}
	say := func(text string) {
		t.Helper()
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	publishLive(t, s, "b", `"before"`)
	say(`{"publish":{"topic":"a","data":{"x":1}},"ref":"r1"}`)
	if e := next("message"); e.Topic != "a" || string(e.Data) != `{"x":1}` {
		t.Errorf("%+v", e)
	}
	say(`{"subscribe":["b"],"after":"other-0","unsubscribe":["a"]}`)
	if first, second := next("reply"), next("reply"); first.Ref != "r1" || first.ID == "" || second.Error != nil {
		t.Errorf("%+v, %+v", first, second)
	}
	next("gap")
	if e := next("message"); string(e.Data) != `"before"` {
		t.Errorf("%+v", e)
	}
	for text, code := range map[string]string{
		`nonsense`: "unprocessable-entity", `{}`: "unprocessable-entity", `{"publish":{"topic":"feed/kv","data":1}}`: "feed",
		`{"subscribe":["A"]}`: "unprocessable-entity", `{"publish":{"topic":"a"}}`: "unprocessable-entity", `{"a":1}`: "unprocessable-entity",
	} {
		say(text)
		if e := next("reply"); e.Error == nil || e.Error.Code != code {
			t.Errorf("%s: %+v", text, e)
		}
	}
	if err := c.Write(t.Context(), websocket.MessageText, make([]byte, 1<<20)); err == nil {
		if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
			t.Errorf("a megabyte: %v", err)
		}
	}
}

// An API's feed tells what it does, to those who may read it.
func TestLiveFeed(t *testing.T) {
	s := serve(t)
	l := listen(t, s, "topic=feed/functions")
	f := deployed(t, s, "hello", probe(t, "c"))
	f.want(201, "GET", "/invoke", "")
	if e := l.next("message"); !strings.Contains(string(e.Data), `"name":"hello","version":1,"trigger":"http"`) {
		t.Errorf("%s", e.Data)
	}
	_, minted, _ := ask(t, s, "POST", "/api/auth/tokens", `{"name":"x","scopes":["live:*"]}`, "Content-Type", "application/json")
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(minted), &token); err != nil {
		t.Fatal(err)
	}
	bearer := []string{"Authorization", "Bearer " + token.Token}
	for query, want := range map[string]int{"topic=feed/functions": 403, "topic=feed/": 422, "topic=feed/A": 422} {
		if status, text, _ := ask(t, s, "GET", "/api/live/events?"+query, "", bearer...); status != want {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	listen(t, s, "topic=open", bearer...)
	if status, _, _ := ask(t, s, "GET", "/live?topic=feed/functions", "", bearer...); status != 403 {
		t.Errorf("the page: %d", status)
	}
}

func TestLivePage(t *testing.T) {
	s := serve(t)
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	status, text, _ := ask(t, s, "POST", "/live", "topic=news&data=%3Chello%3E", form...)
	if status != 200 || !strings.Contains(text, `<code>&#34;\u003chello\u003e&#34;</code>`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := ask(t, s, "POST", "/live", "topic=NEWS&data=x", form...); status != 422 || !strings.Contains(text, `role="alert"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := ask(t, s, "GET", "/live/assets/live.js", ""); status != 200 || !strings.Contains(text, "EventSource") {
		t.Errorf("%d %s", status, text)
	}
}
