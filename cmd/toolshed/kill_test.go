package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// kills is how often the program is killed: with SHED_LONG=1 as often as is
// promised.
func kills() int {
	switch {
	case os.Getenv("SHED_LONG") == "1":
		return 500
	case testing.Short():
		return 5
	}
	return 50
}

// Killed at any moment, the queue loses no message, and none is acknowledged
// twice or delivered after it was acknowledged: those taken in over HTTP, and
// those of atomic writes, which are delivered where the write was done, and
// there alone.
func TestQueueIsKilled(t *testing.T) {
	w := &killed{
		t: t, up: sync.NewCond(new(sync.Mutex)), worked: make(chan struct{}), over: make(chan struct{}),
		taken: map[string]string{}, acked: map[string]int{}, maybe: map[string]bool{}, seen: map[string]string{},
	}
	dir := t.TempDir()
	p := start(t, dir, nil, "--listen", "127.0.0.1:0")
	w.token = tokenText.FindString(p.line())
	w.set(p.url)
	var producers, consumers sync.WaitGroup
	for i := range 3 {
		producers.Go(func() { w.produce(i, w.enqueue) })
	}
	producers.Go(func() { w.produce(3, w.write) })
	for range 3 {
		consumers.Go(func() { w.consume("work") })
	}
	consumers.Go(func() { w.consume("deno") })
	total := kills()
	for range total {
		for range 1 + rand.IntN(60) {
			<-w.worked
		}
		w.set("")
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.cmd.Wait()
		p = start(t, dir, nil, "--listen", "127.0.0.1:0")
		w.set(p.url)
	}
	go func() {
		for range w.worked {
		}
	}()
	close(w.over)
	producers.Wait()
	w.untilEmpty(p)
	w.mu.Lock()
	w.emptied = true
	w.mu.Unlock()
	consumers.Wait()
	close(w.worked)
	w.judge(total)
}

// killed is what producers and consumers know.
type killed struct {
	t     *testing.T
	token string
	// up guards url, which is empty while nothing runs.
	up  *sync.Cond
	url string
	// worked is told of each request that was answered; over is closed when
	// nobody is killed any more.
	worked, over chan struct{}

	// mu guards what is below.
	mu sync.Mutex
	// taken is the id of each key that was taken in; empty for an atomic
	// write's.
	taken map[string]string
	// acked counts, by id and queue, acknowledgements that were answered; maybe
	// are those that got no answer and then found the message gone.
	acked map[string]int
	maybe map[string]bool
	// seen is the key of each message that was delivered.
	seen    map[string]string
	emptied bool
}

func (w *killed) set(url string) {
	w.up.L.Lock()
	w.url = url
	w.up.L.Unlock()
	w.up.Broadcast()
}

// ask asks whatever runs; the status is 0 where no answer came.
func (w *killed) ask(method, path, body string, header ...string) (int, string) {
	w.up.L.Lock()
	for w.url == "" {
		w.up.Wait()
	}
	url := w.url
	w.up.L.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return 0, ""
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	w.worked <- struct{}{}
	return resp.StatusCode, string(text)
}

// certainly asks until there is an answer, and reports whether one was missing
// before.
func (w *killed) certainly(method, path, body string, header ...string) (status int, text string, again bool) {
	for {
		if status, text = w.ask(method, path, body, header...); status != 0 {
			return status, text, again
		}
		again = true
	}
}

func (w *killed) produce(n int, send func(key string)) {
	for i := 0; ; i++ {
		select {
		case <-w.over:
			return
		default:
			send(fmt.Sprintf("%d-%d", n, i))
		}
	}
}

func (w *killed) enqueue(key string) {
	backoff := strings.TrimSuffix(strings.Repeat("0s,", 100), ",")
	status, text, again := w.certainly("POST", "/api/queue/work?backoff="+backoff, `"`+key+`"`, "Idempotency-Key", key)
	var got struct {
		ID        string
		Duplicate bool
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.ID == "" || got.Duplicate && !again {
		w.t.Errorf("enqueueing: %d %s", status, text)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken[key] = got.ID
}

// write enqueues by an atomic write, which fails where it was done before.
func (w *killed) write(key string) {
	body := fmt.Sprintf(`{"checks": [{"key": ["w", %[1]q], "versionstamp": null}], "mutations": [{"type": "set", "key": ["w", %[1]q], "value": 1}],
		"enqueues": [{"value": %[1]q, "backoff_ms": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}]}`, key)
	status, text, again := w.certainly("POST", "/api/kv", body)
	if status != http.StatusOK && (!again || status != http.StatusPreconditionFailed) {
		w.t.Errorf("writing: %d %s", status, text)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken[key] = ""
}

type delivered struct {
	ID, Receipt, Value string
	Attempt            int
}

func (w *killed) consume(queue string) {
	for {
		w.mu.Lock()
		emptied := w.emptied
		w.mu.Unlock()
		if emptied {
			return
		}
		status, text := w.ask("POST", "/api/queue/"+queue+"/receive?max=3&wait=300ms&lease=1s", "")
		if status == 0 {
			continue
		}
		var got struct{ Messages []delivered }
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK {
			w.t.Errorf("receiving: %d %s", status, text)
		}
		for _, m := range got.Messages {
			w.work(queue, m)
		}
	}
}

// work acknowledges most messages; some it gives back, and some it forgets.
func (w *killed) work(queue string, m delivered) {
	name := queue + " " + m.ID
	w.mu.Lock()
	if w.acked[name] > 0 {
		w.t.Errorf("%s is delivered after it was acknowledged", name)
	}
	if before, ok := w.seen[name]; ok && before != m.Value {
		w.t.Errorf("%s is %s and %s", name, before, m.Value)
	}
	w.seen[name] = m.Value
	w.mu.Unlock()
	path := "/api/queue/" + queue + "/messages/" + m.ID
	switch n := rand.IntN(20); {
	case n == 0 && m.Attempt < 5:
		return
	case n < 3 && m.Attempt < 5:
		w.ask("POST", path+"/nack?delay=0s&receipt="+m.Receipt, `{"error": "given back"}`)
		return
	}
	status, text, again := w.certainly("POST", path+"/ack?receipt="+m.Receipt, "")
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case status == http.StatusNoContent:
		if w.acked[name]++; w.acked[name] > 1 {
			w.t.Errorf("%s is acknowledged %d times", name, w.acked[name])
		}
	case status == http.StatusConflict && again:
		w.maybe[name] = true
	case status != http.StatusConflict:
		w.t.Errorf("acknowledging: %d %s", status, text)
	}
}

// untilEmpty waits until nothing is left.
func (w *killed) untilEmpty(p *program) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		status, text, _ := p.ask("GET", "/api/queue", "", "Authorization", "Bearer "+w.token)
		if status != http.StatusOK {
			w.t.Fatalf("%d %s", status, text)
		}
		// What an atomic write has given away may not have arrived yet.
		if strings.Contains(text, `"queues":[]`) && w.allSeen() {
			return
		}
		if strings.Contains(text, `"dead":`) && !strings.Contains(text, `"dead":0`) {
			w.t.Fatalf("messages are dead: %s", text)
		}
		// A receiver that finds nothing waits there, and so paces this.
		w.ask("POST", "/api/queue/nothing/receive?wait=100ms", "")
	}
	w.t.Fatal("the queue does not become empty")
}

func (w *killed) allSeen() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen) >= len(w.taken)
}

func (w *killed) judge(total int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := map[string][]string{}
	for name, key := range w.seen {
		names[key] = append(names[key], name)
	}
	unanswered := 0
	for key, id := range w.taken {
		if len(names[key]) != 1 || id != "" && names[key][0] != "work "+id {
			w.t.Errorf("%s, taken in as %q, was delivered as %q", key, id, names[key])
			continue
		}
		if name := names[key][0]; w.acked[name] == 0 {
			unanswered++
			if !w.maybe[name] {
				w.t.Errorf("%s is gone and nobody acknowledged it", name)
			}
		}
	}
	for key := range names {
		if _, ok := w.taken[key]; !ok {
			w.t.Errorf("%s was delivered, and never taken in", key)
		}
	}
	w.t.Logf("%d kills, %d messages, %d of them acknowledged without an answer", total, len(w.taken), unanswered)
	if len(w.taken) < total {
		w.t.Errorf("%d messages are too few to show anything", len(w.taken))
	}
}
