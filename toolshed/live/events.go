package live

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
	"unicode"

	"github.com/toolshed-cloud/shed/toolshed/problem"
)

const (
	// beatEvery is how often something is said, so that what stands between
	// does not take the connection for dead.
	beatEvery = 15 * time.Second
	// writeTime is how long a listener has for what is written to it.
	writeTime = 10 * time.Second
	maxAs     = 64
)

// asked is what a listener asks for in its address.
type asked struct {
	topics    []string
	after, as string
}

func parseAsked(r *http.Request) (a asked, refused *problem.Problem) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return a, problem.Of(http.StatusBadRequest, "query: "+err.Error())
	}
	a = asked{topics: q["topic"], after: q.Get("after"), as: q.Get("as")}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		a.after = last
	}
	for name := range q {
		if name != "topic" && name != "after" && name != "as" {
			return a, problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("query: unknown parameter %.64q", name))
		}
	}
	if len([]rune(a.as)) > maxAs || !printable(a.as) {
		return a, problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("as: want at most %d letters, all of them visible", maxAs))
	}
	return a, mayListen(r.Context(), a.topics)
}

func printable(text string) bool {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// events is a listener by server-sent events (HTML standard, section 9.2), which
// browsers resume by themselves.
func (h handlers) events(w http.ResponseWriter, r *http.Request) {
	a, refused := parseAsked(r)
	if refused == nil && len(a.topics) == 0 {
		refused = problem.Of(http.StatusUnprocessableEntity, "topic: name at least one")
	}
	if refused != nil {
		refused.Write(w)
		return
	}
	l := h.Join(a.as)
	defer l.Leave()
	if err := l.Subscribe(a.topics, a.after); err != nil {
		refusal(err).Write(w)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	out := stream{w: w, control: http.NewResponseController(w)}
	if err := out.write("retry: 2000\n\n"); err != nil {
		return
	}
	for _, e := range l.Missed() {
		if err := out.event(e); err != nil {
			return
		}
	}
	out.follow(r, l)
}

// stream writes server-sent events, each at once.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s stream) write(text string) error {
	// Who does not take it in time is gone; where there are no deadlines, as in
	// a test's recorder, there is nobody to wait for either.
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

func (s stream) event(e Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	id := ""
	if e.ID != "" {
		id = "id: " + e.ID + "\n"
	}
	return s.write(fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, e.Kind, b))
}

// follow writes events until the listener or the server goes, or it is cut.
func (s stream) follow(r *http.Request, l *Listener) {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-l.Cut():
			// The browser comes again, and asks for what it missed.
			return
		case <-r.Context().Done():
			return
		case e := <-l.Events():
			err = s.event(e)
		case <-beat.C:
			err = s.write(":\n\n")
		}
		if err != nil {
			return
		}
	}
}
