package kv

import (
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/kv/key"
)

func failedText(err *FailedError) string {
	var fields []string
	for _, i := range err.Checks {
		fields = append(fields, fmt.Sprintf("checks[%d]", i))
	}
	return strings.Join(fields, ", ") + ": the key is not of that version"
}

// encodeField encodes a key in a body.
func encodeField(name string, k key.Key) ([]byte, error) {
	encoded, err := k.Encode()
	if err != nil {
		return nil, fmt.Errorf("%s.key: %w: %w", name, ErrInvalid, err)
	}
	return encoded, nil
}

// parseWrite reads a body, and names the field at fault.
func (h handlers) parseWrite(in *atomicInput) (w Write, err error) {
	for i, c := range in.Body.Checks {
		name := fmt.Sprintf("checks[%d]", i)
		check := Check{}
		if check.Key, err = encodeField(name, c.Key); err != nil {
			return w, err
		}
		if c.Versionstamp != nil {
			if check.Version, err = ParseVersionstamp(*c.Versionstamp); err != nil {
				return w, fmt.Errorf("%s.versionstamp: %w", name, err)
			}
		}
		w.Checks = append(w.Checks, check)
	}
	for i, j := range in.Body.Mutations {
		m, err := h.parseMutation(fmt.Sprintf("mutations[%d]", i), j)
		if err != nil {
			return w, err
		}
		w.Mutations = append(w.Mutations, m)
	}
	for i, j := range in.Body.Enqueues {
		m, err := h.parseEnqueue(fmt.Sprintf("enqueues[%d]", i), j)
		if err != nil {
			return w, err
		}
		w.Enqueues = append(w.Enqueues, m)
	}
	return w, nil
}

func (h handlers) parseMutation(name string, j mutationJSON) (m Mutation, err error) {
	m = Mutation{Kind: j.Type, ExpiresAt: h.after(j.ExpireInMS)}
	if m.Key, err = encodeField(name, j.Key); err != nil {
		return m, err
	}
	v, ok, err := j.value()
	switch {
	case err != nil:
		return m, fmt.Errorf("%s.%w", name, err)
	case ok == (j.Type == Delete):
		return m, fmt.Errorf("%s: %w: every type but delete has a value", name, ErrInvalid)
	}
	m.Value = v
	return m, nil
}

func (h handlers) parseEnqueue(name string, j enqueueJSON) (m Message, err error) {
	delay, err := milliseconds(name+".delay_ms", j.DelayMS, maxDelay)
	if err != nil {
		return m, err
	}
	m.DueAt = h.kept.now().Add(delay)
	for _, ms := range j.BackoffMS {
		d, err := milliseconds(name+".backoff_ms", ms, maxBackoff)
		if err != nil {
			return m, err
		}
		m.Backoff = append(m.Backoff, d)
	}
	for _, k := range j.Undelivered {
		encoded, err := encodeField(name+".keys_if_undelivered", k)
		if err != nil {
			return m, err
		}
		m.Undelivered = append(m.Undelivered, encoded)
	}
	v, ok, err := j.value()
	switch {
	case err != nil:
		return m, fmt.Errorf("%s.%w", name, err)
	case !ok || v.Encoding != V8:
		return m, fmt.Errorf("%s: %w: want one of value, bigint and v8", name, ErrInvalid)
	}
	m.Payload = v.Data
	return m, nil
}

// milliseconds is a time that fits: a product of more than a Duration holds would
// come out as any other.
func milliseconds(field string, ms int64, most time.Duration) (time.Duration, error) {
	if ms < 0 || ms > most.Milliseconds() {
		return 0, fmt.Errorf("%s: %w: %d milliseconds, want 0 to %d", field, ErrInvalid, ms, most.Milliseconds())
	}
	return time.Duration(ms) * time.Millisecond, nil
}
