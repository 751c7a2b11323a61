package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// Each value is whole and sent at once, in either form, and what is said in
// between is none.
func TestForms(t *testing.T) {
	for _, c := range []struct {
		events      bool
		value, idle string
	}{{false, "{\"a\":\"b\\nc\"}\n", "\n"}, {true, "data: {\"a\":\"b\\nc\"}\n\n", ": still here\n\n"}} {
		var b bytes.Buffer
		flushed := 0
		w := &Writer{w: &b, events: c.events, flush: func() error { flushed = b.Len(); return nil }}
		for _, step := range []struct {
			say  func() error
			want string
		}{{func() error { return w.Value(map[string]string{"a": "b\nc"}) }, c.value}, {w.Idle, c.idle}} {
			b.Reset()
			if err := step.say(); err != nil || b.String() != step.want || flushed != b.Len() {
				t.Errorf("%q, %d bytes of it sent, %v; want %q", b.String(), flushed, err, step.want)
			}
		}
		b.Reset()
		var unsupported *json.UnsupportedTypeError
		if err := w.Value(func() {}); !errors.As(err, &unsupported) || b.Len() != 0 {
			t.Errorf("%v, %q", err, b.String())
		}
	}
}

// A reader that is gone is told of, whether writing or sending shows it.
func TestGone(t *testing.T) {
	gone := errors.New("gone")
	var b strings.Builder
	for _, w := range []*Writer{{w: failing{gone}, flush: func() error { return nil }}, {w: &b, flush: func() error { return gone }}} {
		if err := errors.Join(w.Value(1)); !errors.Is(err, gone) {
			t.Errorf("a value: %v", err)
		}
		if err := w.Idle(); !errors.Is(err, gone) {
			t.Errorf("nothing: %v", err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
