package toolshed

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// The toolshed waits for the next bytes of a body for bodyPatience, and in all
// for that and a second for each slowestBytes that arrived: who sends a byte
// now and then does not keep a place. What a handler leaves unread is waited
// for for leftoverPatience.
const (
	bodyPatience     = 30 * time.Second
	slowestBytes     = 256
	leftoverPatience = 5 * time.Second
)

// arriving is the body of a request: it counts what is read, and waits for no
// more than it may.
type arriving struct {
	io.ReadCloser
	control *http.ResponseController
	waited  time.Duration
	// read and ended are looked at when the request was answered, which a
	// handler may do while the body is still read for it.
	read  atomic.Int64
	ended atomic.Bool
}

// arrive puts itself between a request and its body.
func arrive(w http.ResponseWriter, r *http.Request) *arriving {
	a := &arriving{control: http.NewResponseController(w)}
	a.ended.Store(r.Body == nil || r.Body == http.NoBody)
	if !a.ended.Load() {
		a.ReadCloser, r.Body = r.Body, a
	}
	return a
}

func (a *arriving) Read(p []byte) (int, error) {
	began := time.Now()
	a.deadline(began.Add(a.patience()))
	n, err := a.ReadCloser.Read(p)
	a.waited += time.Since(began)
	a.read.Add(int64(n))
	if err != nil {
		a.ended.Store(true)
	}
	// The connection is read on, for the next request or to notice that the
	// caller has gone.
	a.deadline(time.Time{})
	return n, err
}

func (a *arriving) patience() time.Duration {
	earned := time.Duration(a.read.Load()/slowestBytes) * time.Second
	return max(min(bodyPatience, bodyPatience+earned-a.waited), 0)
}

// end is called once the request was answered.
func (a *arriving) end() {
	if !a.ended.Load() {
		a.deadline(time.Now().Add(leftoverPatience))
	}
}

func (a *arriving) deadline(t time.Time) {
	a.control.SetReadDeadline(t) //nolint:errcheck // net/http's own connections have deadlines
}
