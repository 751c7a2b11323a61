// Package wire asks a provider over HTTP and reads its answer's events.
//
// Invariants: what is wrong is told apart by kind and never by a text; lines and
// error texts are bounded; a body is closed whatever happened to it.
package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/llm"
)

const (
	// maxLine bounds one event, maxError the text of a refusal, maxList a list
	// of models.
	maxLine  = 4 << 20
	maxError = 16 << 10
	maxList  = 4 << 20
)

// Endpoint is a provider's address with what every request bears.
type Endpoint struct {
	// Base ends before the path of a call.
	Base   string
	Header http.Header
	Client *http.Client
}

// do sends a request. Errors are an *llm.UpstreamError, a *llm.RequestError,
// and ctx's.
func (e Endpoint) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.Base+path, bytes.NewReader(body))
	if err != nil {
		return nil, &llm.RequestError{Err: err}
	}
	req.Header = e.Header.Clone()
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.Client.Do(req)
	if err != nil {
		return nil, lost(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) //nolint:errcheck // what came of it is what there is
	return nil, llm.OfStatus(resp.StatusCode, retryAfter(resp.Header), message(text))
}

// message is what a refusal says: OpenAI's and Anthropic's have it in the same
// place.
func message(body []byte) string {
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &said) == nil && said.Error.Message != "" {
		return said.Error.Message
	}
	return string(bytes.ToValidUTF8(bytes.TrimSpace(body), nil))
}

// retryAfter is in seconds (RFC 9110, section 10.2.3); a date is not read.
func retryAfter(h http.Header) time.Duration {
	const most = 3600
	seconds, err := strconv.ParseFloat(h.Get("Retry-After"), 64)
	if err != nil || !(seconds > 0 && seconds <= most) {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// lost tells apart how a connection failed.
func lost(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &timeout) && timeout.Timeout():
		return &llm.UpstreamError{Kind: llm.KindSlow, Err: err}
	}
	return &llm.UpstreamError{Kind: llm.KindUnreachable, Err: err}
}

// Broken is a provider that does not keep to the protocol.
func Broken(format string, args ...any) error {
	return &llm.UpstreamError{Kind: llm.KindBroken, Err: fmt.Errorf(format, args...)}
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
		return Broken("%w", err)
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
		return Broken("an event has more than %d bytes", maxLine)
	} else if err != nil {
		return lost(ctx, err)
	}
	return Broken("the answer ended before its end")
}
