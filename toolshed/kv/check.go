package kv

import (
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/kv/key"
)

// check refuses what is too much or makes no sense, and names it.
func (w Write) check(now time.Time) error {
	switch {
	case len(w.Checks) > MaxChecks:
		return fmt.Errorf("%w: %d checks, at most %d", ErrInvalid, len(w.Checks), MaxChecks)
	case len(w.Mutations)+len(w.Enqueues) > MaxMutations:
		return fmt.Errorf("%w: %d mutations and messages, at most %d", ErrInvalid, len(w.Mutations)+len(w.Enqueues), MaxMutations)
	}
	bytes := 0
	for i, c := range w.Checks {
		if err := checkKey(c.Key); err != nil {
			return fmt.Errorf("check %d: %w", i, err)
		}
		bytes += len(c.Key)
	}
	for i, m := range w.Mutations {
		if err := m.check(); err != nil {
			return fmt.Errorf("mutation %d: %w", i, err)
		}
		bytes += len(m.Key) + len(m.Value.Data)
	}
	for i, m := range w.Enqueues {
		size, err := m.check(now)
		if err != nil {
			return fmt.Errorf("enqueue %d: %w", i, err)
		}
		bytes += size
	}
	if bytes > MaxWriteBytes {
		return fmt.Errorf("%w: the write has %d bytes, at most %d", ErrTooLarge, bytes, MaxWriteBytes)
	}
	return nil
}

// checkKey takes only what decodes: all readers can then show every key.
func checkKey(encoded []byte) error {
	if len(encoded) > MaxKeyBytes {
		return fmt.Errorf("%w: a key takes %d bytes, at most %d", ErrTooLarge, len(encoded), MaxKeyBytes)
	}
	if _, err := key.Decode(encoded); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func (m Mutation) check() error {
	if err := checkKey(m.Key); err != nil {
		return err
	}
	switch m.Kind {
	case Delete:
		return nil
	case Set, Sum:
	case Append:
		if len(appendStamp(m.Key, 1)) > MaxKeyBytes {
			return fmt.Errorf("%w: a key leaves no room for a versionstamp", ErrTooLarge)
		}
	case Min, Max:
		if m.Value.Encoding != U64 {
			return fmt.Errorf("%w: %s takes an unsigned 64-bit integer", ErrInvalid, m.Kind)
		}
	default:
		return fmt.Errorf("%w: there is no kind %.20q", ErrInvalid, m.Kind)
	}
	return m.Value.check()
}
