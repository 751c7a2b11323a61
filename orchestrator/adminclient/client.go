// Package adminclient is the admin API's wire and its one client, for whatever
// speaks to a control plane as its operator.
//
// Invariants: it links nothing of the server's; every answer is capped and is
// waited for no longer than the client says; a refusal is an *Error with the
// problem document's code.
package adminclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest/problem"
)

const (
	// maxAnswerBytes caps what a control plane may answer at once,
	maxAnswerBytes = 64 << 20
	// pageSize is how many instances are asked for at once, the most that the
	// API gives.
	pageSize = 1000
)

// ErrAddress says that an address is not one that a request can be sent to.
var ErrAddress = errors.New("invalid address")

// Client speaks to one control plane's admin API.
type Client struct {
	// Base is the API's URL without a path, Token its bearer token.
	Base, Token string
	// Timeout is how long an answer is waited for; of a stream, its beginning.
	// Zero waits as long as the context does.
	Timeout time.Duration
}

// Error is the control plane's refusal. Code is stable and for programs; it is
// empty where the answer was no problem document.
type Error struct {
	Status       int
	Code, Detail string
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("the control plane answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s (%s)", e.Detail, e.Code)
}

// ErrorOf reads the *Error of an answer with a status of 400 or more.
func ErrorOf(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, problem.MaxBytes))
	if err != nil {
		return e
	}
	if p, err := problem.Parse(resp.StatusCode, body); err == nil {
		e.Code, e.Detail = p.Code, p.Detail
	}
	return e
}

// ReadAddresses reads where the control plane that runs in dir listens.
// fs.ErrNotExist where none has run.
func ReadAddresses(dir string) (Addresses, error) {
	var known Addresses
	text, err := os.ReadFile(filepath.Join(dir, AddressesFile))
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err != nil {
		return known, fmt.Errorf("looking for the control plane: %w", err)
	}
	return known, nil
}

// ReadToken reads a file with a bearer token.
func ReadToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the admin token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// call sends in, where there is any, and decodes the answer into out. Errors
// are *Error, ErrAddress, the context's and the network's.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	answer, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer answer.Close()
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswerBytes)).Decode(out); err != nil {
		return fmt.Errorf("reading the control plane's answer: %w", err)
	}
	return nil
}

// send sends a request and returns the body of a successful answer.
func (c *Client) send(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encoding a request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling the control plane: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, ErrorOf(resp)
	}
	return resp.Body, nil
}

// stream is a body that goes on for as long as its context: only its beginning
// has a deadline.
type stream struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (s stream) Close() error {
	s.cancel()
	return s.ReadCloser.Close()
}

func (c *Client) stream(ctx context.Context, path string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := func() bool { return false }
	if c.Timeout > 0 {
		timer := time.AfterFunc(c.Timeout, cancel)
		late = func() bool { return !timer.Stop() }
	}
	body, err := c.send(ctx, http.MethodGet, path, nil)
	if late() {
		unanswered := &url.Error{Op: "Get", URL: c.Base + path, Err: context.DeadlineExceeded}
		err = errors.Join(fmt.Errorf("calling the control plane: %w", unanswered), closeIf(body))
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return stream{ReadCloser: body, cancel: cancel}, nil
}

func closeIf(c io.Closer) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

// Console streams what an instance's machine writes to its console, to its end
// or, with follow, until ctx ends. Errors are those of every call.
func (c *Client) Console(ctx context.Context, id string, follow bool) (io.ReadCloser, error) {
	return c.stream(ctx, instancePath(id)+"/console?follow="+strconv.FormatBool(follow))
}

// Events is a stream of the history.
type Events struct {
	body io.Closer
	json *json.Decoder
}

// EventQuery says which events are wanted.
type EventQuery struct {
	// After is the last event seen.
	After int64
	// Instance restricts them to one.
	Instance string
	// Follow goes on until the context ends.
	Follow bool
}

// Events opens the history. Errors are those of every call.
func (c *Client) Events(ctx context.Context, q EventQuery) (*Events, error) {
	query := url.Values{
		"follow": {strconv.FormatBool(q.Follow)}, "instance": {q.Instance}, "after": {strconv.FormatInt(q.After, 10)},
	}
	body, err := c.stream(ctx, "/v1/events?"+query.Encode())
	if err != nil {
		return nil, err
	}
	return &Events{body: body, json: json.NewDecoder(body)}, nil
}

// Next is the next event, and io.EOF behind the last.
func (s *Events) Next() (e Event, err error) {
	if err := s.json.Decode(&e); err != nil {
		if errors.Is(err, io.EOF) {
			return e, io.EOF
		}
		return e, fmt.Errorf("reading the history: %w", err)
	}
	return e, nil
}

// Close ends the stream.
func (s *Events) Close() error { return s.body.Close() }
