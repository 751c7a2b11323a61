package live

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
	"unicode"

	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/stream"
)

const (
	// beatEvery is how often something is said, so that what stands between
	// does not take the connection for dead.
	beatEvery = 15 * time.Second
	// writeTime is how long a listener has for what is written to it.
	writeTime = 10 * time.Second
	// retryAfter is when a browser that was cut comes again.
	retryAfter = 2 * time.Second
	maxAs      = 64
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
	out := stream.New(w, true)
	// Who does not take it in time is gone.
	out.Patience = writeTime
	if err := out.Retry(retryAfter); err != nil {
		return
	}
	for _, e := range l.Missed() {
		if err := out.Event(e.ID, string(e.Kind), e); err != nil {
			return
		}
	}
	follow(r.Context(), out, l)
}

// follow writes events until the listener or the server goes, or it is cut.
func follow(ctx context.Context, out *stream.Writer, l *Listener) {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-l.Cut():
			// The browser comes again, and asks for what it missed.
			return
		case <-ctx.Done():
			return
		case e := <-l.Events():
			err = out.Event(e.ID, string(e.Kind), e)
		case <-beat.C:
			err = out.Idle()
		}
		if err != nil {
			return
		}
	}
}
