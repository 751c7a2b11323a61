package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// recovering is an unclaimed machine whose data waits for its owner.
type recovering struct {
	still
	recover func(context.Context) error
}

func (m recovering) Recover(ctx context.Context, _ *ownership.Claim, _ seal.VolumeID, _ []byte) error {
	return m.recover(ctx)
}

func recoverOn(t *testing.T, conn *channel.Conn, claim []byte) string {
	t.Helper()
	body, err := canon.Marshal(channel.Recovery{Volume: seal.VolumeID{1}, Key: []byte{1}, Claim: claim})
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Call(t.Context(), http.MethodPost, channel.RecoveryPath, channel.ContentType, body, 1<<12)
	return codeOf(t, err)
}

// A claim that comes with the key of the data answers its connection's nonce, as
// any other.
func TestNonceOfAClaimWithAKey(t *testing.T) {
	taken := 0
	address := openOn(t, recovering{recover: func(context.Context) error {
		taken++
		return seal.ErrForeign
	}}, time.Minute)
	conn := dial(t, address)
	c, _ := newClaim(t, attest.Nonce{1})
	if code := recoverOn(t, conn, c.Encode()); code != "stale-claim" || taken != 0 {
		t.Errorf("no nonce was drawn: %q, taken %d times", code, taken)
	}
	nonce, err := conn.Call(t.Context(), http.MethodGet, channel.ClaimPath, "", nil, 1<<12)
	if err != nil {
		t.Fatal(err)
	}
	c, _ = newClaim(t, attest.Nonce(nonce))
	if code := recoverOn(t, conn, c.Encode()); code != "wrong-key" || taken != 1 {
		t.Errorf("its own nonce: %q, taken %d times", code, taken)
	}
	if code := recoverOn(t, conn, c.Encode()); code != "stale-claim" || taken != 1 {
		t.Errorf("a second time: %q, taken %d times", code, taken)
	}
}

// What keeps the data closed is said by name, and what is the machine's own
// affair is not said.
func TestWhyARecoveryIsRefused(t *testing.T) {
	for want, err := range map[string]error{
		"nothing-left": seal.ErrNothingLeft, "claimed": seal.ErrClaimed, "wrong-key": seal.ErrForeign,
		"refused": fmt.Errorf("%w: of another machine", attest.ErrClaim), "recovery-failed": errors.New("of the machine's own"),
	} {
		address := openOn(t, recovering{recover: func(context.Context) error { return fmt.Errorf("recovering: %w", err) }}, time.Minute)
		if code := recoverOn(t, dial(t, address), nil); code != want {
			t.Errorf("%v: %q", err, code)
		}
	}
}

// A recovery takes as long as it takes, though its bearer is nobody's owner yet.
func TestRecoveriesAreNotCutOff(t *testing.T) {
	stranger := make(chan string, 1)
	address := openOn(t, recovering{recover: func(ctx context.Context) error {
		// One that came later is over.
		io.Copy(io.Discard, slow(t, <-stranger, channel.ClaimPath)) //nolint:errcheck // it is cut off
		if err := ctx.Err(); err != nil {
			t.Errorf("cut off: %v", err)
		}
		return seal.ErrForeign
	}}, 50*time.Millisecond)
	stranger <- address
	if code := recoverOn(t, dial(t, address), nil); code != "wrong-key" {
		t.Errorf("answered %q", code)
	}
}
