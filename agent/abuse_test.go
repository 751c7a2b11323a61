package agent_test

import (
	"bytes"
	"net/http"
	"sync"
	"testing"

	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
)

// post sends a body to where a key is taken.
func (m *machine) post(t *testing.T, body []byte) int {
	t.Helper()
	s := m.connect()
	req, err := s.Conn.Request(t.Context(), http.MethodPost, channel.RecoveryPath, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", channel.ContentType)
	_, err = s.Conn.Do(req, channel.MaxRequestBytes)
	return status(err)
}

// Whatever strangers send, and however many at once, a machine that waits for its
// owner is the owner's afterwards, with the data.
func TestStrangersAtAMachineThatWaits(t *testing.T) {
	m, keys := replaced(t)
	s := m.connect()
	left, err := s.Left(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := canon.Marshal(channel.Recovery{Volume: left.Volume, Key: make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body []byte
		want int
	}{
		"nothing":     {nil, http.StatusBadRequest},
		"too long":    {make([]byte, channel.MaxRequestBytes+1), http.StatusRequestEntityTooLarge},
		"deep":        {bytes.Repeat([]byte{0x81}, channel.MaxRequestBytes/2), http.StatusBadRequest},
		"half":        {foreign[:len(foreign)/2], http.StatusBadRequest},
		"more behind": {append(bytes.Clone(foreign), 0), http.StatusBadRequest},
		"a wrong key": {foreign, http.StatusForbidden},
	} {
		if got := m.post(t, c.body); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	var strangers sync.WaitGroup
	for n := range 32 {
		strangers.Go(func() {
			if n%2 == 0 {
				m.post(t, foreign)
				return
			}
			if err := m.connect().Claim(t.Context(), newKeys(t)); err == nil {
				t.Error("a stranger has the machine")
			}
		})
	}
	for err = s.Recover(t.Context(), keys, left); status(err) == http.StatusServiceUnavailable; {
		err = s.Recover(t.Context(), keys, left)
	}
	strangers.Wait()
	if err != nil || m.Awaiting() || len(m.data.mounted) != 1 {
		t.Errorf("%v; awaiting %t, mounted %v", err, m.Awaiting(), m.data.mounted)
	}
}
