package client

import (
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// The key of the data goes to no machine that is another's, and a machine that
// took it has to prove once more whose it is.
func TestWhoGetsTheKey(t *testing.T) {
	keys, name := newKeys(t), append([]byte{0, 0x0b}, make([]byte, 32)...)
	own, foreign := sign(t, keys, name, 1), sign(t, newKeys(t), name, 1)
	left := &channel.Left{Claim: own.Digest(), Volume: [16]byte{1}}
	var err error
	left.Wrapped, err = own.WrapRecovery(ownership.Recovery{VolumeKey: make([]byte, 16)}, ownership.RecoveryContext(left.Volume, left.Claim))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		claim *ownership.Claim
		asked []string
	}{
		"another's": {foreign, []string{channel.ClaimDocumentPath}},
		"the owner's, and proves nothing afterwards": {own, []string{channel.ClaimDocumentPath, channel.RecoveryPath, channel.EvidencePath}},
	} {
		var mu sync.Mutex
		var asked []string
		conn := dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			switch asked = append(asked, r.URL.Path); r.URL.Path {
			case channel.ClaimDocumentPath:
				w.Write(c.claim.Encode()) //nolint:errcheck // the client sees
			case channel.EvidencePath:
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
		trust := Trust{Rand: rand.Reader, Now: time.Now}
		s := &Session{Conn: conn, trust: trust, Evidence: &verifier.Verified{AK: name, Claim: c.claim.Digest()}}
		err := s.Recover(t.Context(), keys, left)
		mu.Lock()
		if err == nil || errors.Is(err, attest.ErrClaim) != (c.claim == foreign) || !slices.Equal(asked, c.asked) {
			t.Errorf("%s: %v, asked %v, want %v", what, err, asked, c.asked)
		}
		mu.Unlock()
	}
}
