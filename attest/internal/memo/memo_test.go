package memo

import (
	"errors"
	"fmt"
	"testing"
)

func TestMemoKeepsByBytes(t *testing.T) {
	var m Memo[int]
	made := 0
	make := func(b []byte) (int, error) { made++; return int(b[0]), nil }
	for _, key := range []string{"a", "b", "a", "b"} {
		if got, err := m.Get([]byte(key), make); err != nil || got != int(key[0]) {
			t.Errorf("%s: %d, error %v", key, got, err)
		}
	}
	if made != 2 {
		t.Errorf("made %d times, want 2", made)
	}
}

func TestMemoKeepsNoFailure(t *testing.T) {
	var m Memo[int]
	tries := 0
	fail := func([]byte) (int, error) { tries++; return 0, errors.New("no") }
	for range 2 {
		if _, err := m.Get([]byte("a"), fail); err == nil {
			t.Error("no error")
		}
	}
	if tries != 2 {
		t.Errorf("tried %d times, want 2", tries)
	}
}

// A stranger who sends ever other bytes fills no memory.
func TestMemoIsBounded(t *testing.T) {
	var m Memo[int]
	one := func([]byte) (int, error) { return 1, nil }
	for n := range 3 * limit {
		m.Get(fmt.Append(nil, n), one) //nolint:errcheck // it never fails
		if len(m.entries) > limit {
			t.Fatalf("%d entries", len(m.entries))
		}
	}
	for n := range 40 {
		long := append(make([]byte, limitBytes/16), byte(n))
		m.Get(long, one) //nolint:errcheck // it never fails
		if m.bytes > limitBytes {
			t.Fatalf("%d bytes", m.bytes)
		}
	}
}
