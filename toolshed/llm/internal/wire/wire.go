// Package wire stands between the makers' own clients and whatever server is
// asked by them.
//
// Invariants: lines and lists are bounded before a client sees them; a client
// gets whole events, each with data; an answer that ends before its end is none;
// every error is of package upstream, or the context's; nothing is tried again
// here, and nothing says on which system the toolshed runs.
package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

const (
	// maxLine bounds one event, maxList a list of models.
	maxLine = 4 << 20
	maxList = 4 << 20
)

// Client sends requests for a maker's client: what is posted is a chat, whose
// answer comes as events, and what is got is a list.
type Client struct{ HTTP *http.Client }

// Do sends a request. Errors are an *upstream.Error, a *upstream.RequestError,
// and the context's.
func (c Client) Do(req *http.Request) (*http.Response, error) {
	for name := range req.Header {
		if strings.HasPrefix(name, "X-Stainless-") {
			req.Header.Del(name)
		}
	}
	if req.Method == http.MethodGet {
		return c.list(req)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, upstream.Lost(req.Context(), err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, upstream.Refused(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 16<<10), maxLine)
	resp.Body = &events{ctx: req.Context(), Closer: resp.Body, lines: lines}
	return resp, nil
}

func (c Client) list(req *http.Request) (*http.Response, error) {
	b, err := upstream.Exchange(c.HTTP, req, maxList)
	if err != nil {
		return nil, err
	}
	// The clients decode nothing that is called otherwise.
	header := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(bytes.NewReader(b)), Request: req}, nil
}

// Fault is the error of a maker's client: one of Do's, or what the client says
// of an answer that it cannot read.
func Fault(ctx context.Context, err error) error {
	var fault *upstream.Error
	var request *upstream.RequestError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &fault):
		return fault
	case errors.As(err, &request):
		return request
	}
	return upstream.Breaks("%w", err)
}

// events is an answer's body as events of one line of data each, without
// comments and without what comes after the last.
type events struct {
	io.Closer
	ctx   context.Context
	lines *bufio.Scanner
	name  []byte
	ready bytes.Buffer
	err   error
}

func (e *events) Read(p []byte) (int, error) {
	for e.ready.Len() == 0 {
		if e.err != nil {
			return 0, e.err
		}
		e.err = e.next()
	}
	return e.ready.Read(p)
}

// next makes the next event ready. The error ends the body, io.EOF where the
// answer is whole.
func (e *events) next() error {
	for e.lines.Scan() {
		line := bytes.TrimSpace(e.lines.Bytes())
		if len(line) == 0 {
			// The name of an event without data is no other's.
			e.name = nil
			continue
		}
		if name, ok := bytes.CutPrefix(line, []byte("event:")); ok {
			e.name = bytes.Clone(bytes.TrimSpace(name))
			continue
		}
		// Each event of these protocols is one line of data (HTML standard, section
		// 9.2.6); there are servers that leave out the empty line after it.
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if data = bytes.TrimSpace(data); !ok || len(data) == 0 {
			continue
		}
		last, err := check(data)
		if err != nil {
			return err
		}
		e.put(data)
		if last {
			return io.EOF
		}
		return nil
	}
	if err := e.lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return upstream.Breaks("an event has more than %d bytes", maxLine)
	} else if err != nil {
		return upstream.Lost(e.ctx, err)
	}
	return upstream.Breaks("the answer ended before its end")
}

func (e *events) put(data []byte) {
	if len(e.name) > 0 {
		e.ready.WriteString("event: ")
		e.ready.Write(e.name)
		e.ready.WriteByte('\n')
	}
	e.ready.WriteString("data: ")
	e.ready.Write(data)
	e.ready.WriteString("\n\n")
	e.name = nil
}

// check says whether an event is the last, of either protocol; the error is what
// it says of a failure.
func check(data []byte) (last bool, err error) {
	if string(data) == "[DONE]" {
		return true, nil
	}
	var event struct {
		Type  string          `json:"type"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return false, upstream.Breaks("an event: %w", err)
	}
	if len(event.Error) > 0 && string(event.Error) != "null" {
		return false, failed(event.Error)
	}
	return event.Type == "message_stop", nil
}

// failed is the error of an event that tells of one, as an object or as a text.
func failed(raw json.RawMessage) error {
	var said struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(raw, &said); err != nil && json.Unmarshal(raw, &said.Message) != nil {
		return upstream.Breaks("an event's error is neither object nor text")
	}
	kind := upstream.Failed
	if said.Type == "overloaded_error" || said.Type == "rate_limit_error" {
		kind = upstream.Limited
	}
	return &upstream.Error{Kind: kind, Err: errors.New(said.Message)}
}
