package witness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
)

// Client asks one witness on behalf of a log. It is for one asker at a time.
type Client struct {
	// URL is the submission prefix, Key the witness's.
	URL  string
	Key  checkpoint.Key
	HTTP *http.Client

	// size is what the witness is thought to know.
	size int64
}

// Prove makes a consistency proof from one size to the checkpoint's.
type Prove func(ctx context.Context, from int64) (tlog.TreeProof, error)

// StatusError is a witness's refusal.
type StatusError struct {
	Witness string
	Code    int
	Body    string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("witness %s answers %d %s: %.200q", e.Witness, e.Code, http.StatusText(e.Code), strings.TrimSpace(e.Body))
}

// Cosign asks for a cosignature on a checkpoint and verifies it. A witness that
// knows another size says so, and is asked once more. Errors are a
// *StatusError, attest.ErrTransparency, prove's and the network's.
func (c *Client) Cosign(ctx context.Context, log checkpoint.Key, signed []byte, prove Prove) ([]byte, error) {
	head, err := checkpoint.Parse(signed)
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		line, known, err := c.ask(ctx, head, signed, prove)
		if err != nil {
			return nil, err
		}
		if line != nil {
			return line, c.check(log, signed, line, head.Size)
		}
		if attempt > 0 || known > head.Size || known == c.size {
			return nil, &StatusError{Witness: c.Key.Name(), Code: http.StatusConflict, Body: fmt.Sprintf("it knows size %d", known)}
		}
		c.size = known
	}
}

// check wants one line, and in it this witness's cosignature.
func (c *Client) check(log checkpoint.Key, signed, line []byte, size int64) error {
	whole := append(bytes.Clone(signed), line...)
	s, err := checkpoint.Open(whole, log, []checkpoint.Key{c.Key})
	if err != nil {
		return fmt.Errorf("witness %s: %w", c.Key.Name(), err)
	}
	if len(s.Cosignatures) != 1 || bytes.Count(line, []byte("\n")) != 1 {
		return &StatusError{Witness: c.Key.Name(), Code: http.StatusOK, Body: "no cosignature by its key alone"}
	}
	c.size = size
	return nil
}

// ask sends one request. Where the witness knows another size, line is nil.
func (c *Client) ask(ctx context.Context, head checkpoint.Checkpoint, signed []byte, prove Prove) (line []byte, known int64, err error) {
	r := Request{Old: min(c.size, head.Size), Checkpoint: signed}
	if r.Old > 0 && r.Old < head.Size {
		if r.Proof, err = prove(ctx, r.Old); err != nil {
			return nil, 0, fmt.Errorf("proving growth to witness %s: %w", c.Key.Name(), err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+AddPath, bytes.NewReader(r.Encode()))
	if err != nil {
		return nil, 0, fmt.Errorf("asking witness %s: %w", c.Key.Name(), err)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("asking witness %s: %w", c.Key.Name(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, checkpoint.MaxBytes))
	if err != nil {
		return nil, 0, fmt.Errorf("hearing witness %s: %w", c.Key.Name(), err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return body, head.Size, nil
	case resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") == sizeType:
		known, err = checkpoint.ParseSize(strings.TrimSuffix(string(body), "\n"))
		return nil, known, err
	}
	return nil, 0, &StatusError{Witness: c.Key.Name(), Code: resp.StatusCode, Body: string(body)}
}
