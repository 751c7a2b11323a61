package client

import (
	"crypto/rand"
	"errors"
	"net/http"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Whose a machine is shows by its claim alone, whatever it answers besides.
func TestWhose(t *testing.T) {
	keys := newKeys(t)
	name := append([]byte{0, 0x0b}, make([]byte, 32)...)
	own, foreign := sign(t, keys, name, 1), sign(t, newKeys(t), name, 1)
	for what, c := range map[string]struct {
		measured, shown *ownership.Claim
		status          int
		pin             *Pin
		keys            *Keys
		want            Whose
		err             error
	}{
		"nobody's":             {nil, own, http.StatusOK, nil, &keys, Nobodys, nil},
		"pinned":               {own, own, http.StatusUnauthorized, &Pin{Claim: own.Digest()}, nil, Yours, nil},
		"shown to its owner":   {own, own, http.StatusOK, nil, &keys, Yours, nil},
		"pinned unclaimed":     {own, own, http.StatusOK, &Pin{}, &keys, Yours, nil},
		"not shown":            {foreign, foreign, http.StatusUnauthorized, nil, &keys, Anothers, nil},
		"shown to another":     {foreign, foreign, http.StatusOK, nil, &keys, Anothers, nil},
		"no keys":              {own, own, http.StatusOK, nil, nil, Anothers, nil},
		"not the measured one": {foreign, own, http.StatusOK, nil, &keys, "", attest.ErrClaim},
	} {
		t.Run(what, func(t *testing.T) {
			conn := dial(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				w.Write(c.shown.Encode()) //nolint:errcheck // the client sees
			}))
			s := &Session{Conn: conn, Evidence: &verifier.Verified{AK: name}, pin: c.pin}
			if c.measured != nil {
				s.Evidence.Claim = c.measured.Digest()
			}
			if got, err := s.Whose(t.Context(), c.keys); got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q, %v, want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

// Asking for keys draws none.
func TestDrawnKeys(t *testing.T) {
	state := ClientState{Dir: t.TempDir()}
	if keys, err := state.DrawnKeys(rand.Reader); keys != nil || err != nil {
		t.Errorf("keys that nobody drew: %v, %v", keys, err)
	}
	drawn, err := state.Keys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := state.DrawnKeys(rand.Reader); err != nil || !keys.Owner.Equal(drawn.Owner) || !keys.Recovery.Equal(drawn.Recovery) {
		t.Errorf("other keys than were drawn: %v", err)
	}
}
