// Package wire asks a provider over HTTP and reads its answer's events.
//
// Invariants: lines and lists are bounded; a body is closed whatever happened to
// it; an answer that ends before its end is none.
package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

const (
	// maxLine bounds one event, maxList a list of models.
	maxLine = 4 << 20
	maxList = 4 << 20
)

// Endpoint is a provider's address with what every request bears.
type Endpoint struct {
	// Base ends before the path of a call.
	Base   string
	Header http.Header
	Client *http.Client
}

// do sends a request. Errors are an *upstream.Error, a *upstream.RequestError,
// and ctx's.
func (e Endpoint) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.Base+path, bytes.NewReader(body))
	if err != nil {
		return nil, &upstream.RequestError{Err: err}
	}
	req.Header = e.Header.Clone()
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.Client.Do(req)
	if err != nil {
		return nil, upstream.Lost(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, upstream.Refused(resp)
}

// Get reads a JSON document.
func (e Endpoint) Get(ctx context.Context, path string, into any) error {
	resp, err := e.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxList)).Decode(into); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return upstream.Breaks("%w", err)
	}
	return nil
}

// Stream posts a request and passes the data of each event on, until take
// answers done. Errors are take's and those of do, and one of KindBroken where
// the answer ends before.
func (e Endpoint) Stream(ctx context.Context, path string, body []byte, take func(data []byte) (done bool, err error)) error {
	resp, err := e.do(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 16<<10), maxLine)
	for lines.Scan() {
		// Each event of these protocols is one line of data; its name is in the
		// data too (HTML standard, section 9.2.6).
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		done, err := take(bytes.TrimSpace(data))
		if done || err != nil {
			return err
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return upstream.Breaks("an event has more than %d bytes", maxLine)
	} else if err != nil {
		return upstream.Lost(ctx, err)
	}
	return upstream.Breaks("the answer ended before its end")
}
