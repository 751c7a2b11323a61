package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/jsvalue"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// MessageJSON is a message in JSON. Its body is in one of value, text and
// bytes.
type MessageJSON struct {
	ID          string          `json:"id"`
	Queue       string          `json:"queue"`
	State       string          `json:"state" enum:"waiting,leased,dead"`
	Attempt     int             `json:"attempt" doc:"counts deliveries, the first being 1"`
	Priority    int             `json:"priority"`
	EnqueuedAt  time.Time       `json:"enqueued_at"`
	DueAt       *time.Time      `json:"due_at,omitempty" doc:"when it is delivered next"`
	DiedAt      *time.Time      `json:"died_at,omitempty"`
	Receipt     string          `json:"receipt,omitempty" doc:"what ends this delivery; it is good until lease_ends"`
	LeaseEnds   *time.Time      `json:"lease_ends,omitempty"`
	Error       string          `json:"error,omitempty" doc:"why the last attempt failed"`
	ContentType string          `json:"content_type,omitempty"`
	Value       json.RawMessage `json:"value,omitempty" doc:"the body where it is JSON, or a JavaScript value that JSON can hold"`
	Text        *string         `json:"text,omitempty" doc:"the body where it is text"`
	Bytes       *[]byte         `json:"bytes,omitempty" doc:"any other body, in base64"`
}

// messageJSON shows the receipt to who was given the delivery alone.
func messageJSON(m Message, withReceipt bool) MessageJSON {
	j := MessageJSON{
		ID: strconv.FormatInt(m.ID, 10), Queue: m.Queue, State: m.State.String(), Attempt: m.Attempt, Priority: m.Priority,
		EnqueuedAt: m.EnqueuedAt, Error: m.Error, ContentType: m.ContentType,
	}
	switch m.State {
	case Waiting:
		j.DueAt = &m.DueAt
	case Dead:
		j.DiedAt = &m.DueAt
	case Leased:
		j.LeaseEnds = &m.LeaseEnds
		if withReceipt {
			j.Receipt = m.Receipt
		}
	}
	j.body(m)
	return j
}

func (j *MessageJSON) body(m Message) {
	kind, _, _ := mime.ParseMediaType(m.ContentType)
	if kind == jsvalue.MediaType {
		if text, err := jsvalue.ToJSON(m.Body); err == nil {
			j.Value = text
			return
		}
	}
	switch {
	case kind == "application/json" && json.Valid(m.Body):
		j.Value = m.Body
	case kind != jsvalue.MediaType && utf8.Valid(m.Body) && !strings.Contains(string(m.Body), "\x00"):
		text := string(m.Body)
		j.Text = &text
	default:
		j.Bytes = &m.Body
	}
}

// parseID reads a message's id in an address.
func parseID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, refusal(ErrNotFound)
	}
	return id, nil
}

// duration reads the named parameter; empty is the fallback.
func duration(name, text string, fallback time.Duration) (time.Duration, error) {
	if text == "" {
		return fallback, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, problem.Of(http.StatusUnprocessableEntity, name+": want a duration, as 500ms, 90s or 24h")
	}
	return d, nil
}

// parseBackoff reads delays with commas between; "none" is no retry.
func parseBackoff(text string) ([]time.Duration, error) {
	switch text {
	case "":
		return nil, nil
	case "none":
		return []time.Duration{}, nil
	}
	if strings.Count(text, ",") >= MaxBackoffs {
		return nil, problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("backoff: at most %d delays", MaxBackoffs))
	}
	var all []time.Duration
	for one := range strings.SplitSeq(text, ",") {
		d, err := duration("backoff", one, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// refusal turns the sentinels into problems.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return problem.Of(http.StatusNotFound, "there is none")
	case errors.Is(err, ErrLost):
		return problem.New(http.StatusConflict, "lease-lost", "receipt: "+ErrLost.Error())
	case errors.Is(err, ErrKeyReused):
		return problem.New(http.StatusUnprocessableEntity, "key-reused", "Idempotency-Key: "+ErrKeyReused.Error())
	case errors.Is(err, ErrInvalid):
		return problem.Of(http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, store.ErrQuota):
		return problem.New(http.StatusInsufficientStorage, "quota", err.Error()+"; acknowledging and deleting make room")
	case errors.Is(err, store.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "disk-full", err.Error()+"; acknowledging and deleting make room")
	}
	return problem.Of(http.StatusInternalServerError, "the queue failed: "+err.Error())
}
