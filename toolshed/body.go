package toolshed

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// The toolshed waits for the next bytes of a body for bodyPatience, and in all
// for that and a second for each slowestBytes that arrived: who sends a byte
// now and then does not keep a place. For what a handler leaves unread net/http
// waits before it answers, and here for leftoverPatience.
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
	// shared says that other requests use the connection meanwhile, whose
	// deadlines are each one's own, and final.
	shared bool
	waited time.Duration
	// read and ended are looked at when the request was answered, which a
	// handler may do while the body is still read for it.
	read  atomic.Int64
	ended atomic.Bool
}

// arrive puts itself between a request and its body.
func arrive(w http.ResponseWriter, r *http.Request) *arriving {
	a := &arriving{control: http.NewResponseController(w), shared: r.ProtoMajor > 1}
	a.ended.Store(r.Body == nil || r.Body == http.NoBody)
	if !a.ended.Load() {
		a.ReadCloser, r.Body = r.Body, a
		a.leave()
	}
	return a
}

func (a *arriving) Read(p []byte) (int, error) {
	began := time.Now()
	a.deadline(began.Add(a.patience()))
	n, err := a.ReadCloser.Read(p)
	a.waited += time.Since(began)
	a.read.Add(int64(n))
	a.ended.Store(errors.Is(err, io.EOF))
	a.leave()
	return n, err
}

// leave is called whenever the handler does not read. Once the body has ended,
// the connection is read on to notice that the caller goes.
func (a *arriving) leave() {
	if a.ended.Load() || a.shared {
		a.deadline(time.Time{})
		return
	}
	a.deadline(time.Now().Add(leftoverPatience))
}

func (a *arriving) patience() time.Duration {
	earned := time.Duration(a.read.Load()/slowestBytes) * time.Second
	return max(min(bodyPatience, bodyPatience+earned-a.waited), 0)
}

func (a *arriving) deadline(t time.Time) {
	a.control.SetReadDeadline(t) //nolint:errcheck // net/http's own connections have deadlines
}
