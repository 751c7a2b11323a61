package agent_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logproof"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// logged puts the machine's release into a log.
func (m *machine) logged(log *logtest.Log) (key logtest.ReleaseKey, digest attest.ReleaseDigest, index int64) {
	m.t.Helper()
	key = logtest.ReleaseKeyOf(m.t, m.key)
	manifest := m.endorsement("1.0.0").Manifest
	parsed, err := release.ParseManifest(manifest)
	if err != nil {
		m.t.Fatal(err)
	}
	digest = attest.ReleaseDigest(attest.Sum(manifest))
	statement := release.EntryOf(parsed, digest)
	return key, digest, log.Add(key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &statement}))
}

// What the log says of a release reaches the client over the machine's own
// connection, and a newer proof takes the place of an older one.
func TestClientAsksTheLog(t *testing.T) {
	m, log := newMachine(t), logtest.New(t, 2)
	key, digest, index := m.logged(log)
	trust := m.trust()
	trust.Log = log.Policy()
	var learned release.Memory
	trust.Learn = func(m release.Memory) error {
		learned = learned.Merge(m)
		return nil
	}
	if _, err := trust.Connect(t.Context(), m.url, nil); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("without a proof: %v", err)
	}
	m.SetProof(log.Document(index))
	s, err := trust.Connect(t.Context(), m.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.HasPrefix(s.Result.Transparency, "log.test.example size 1, 2 of 2 witnesses (dev), cosigned ") {
		t.Errorf("transparency %q", s.Result.Transparency)
	}
	withdrawal := log.Add(key.Entry(logentry.Body{
		Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: digest, Reason: logentry.ReasonVulnerable},
	}))
	m.SetProof(log.Document(index, withdrawal))
	if err := s.Verify(t.Context()); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("once withdrawn: %v", err)
	}
	// A machine that no longer shows the withdrawal does not undo it.
	m.SetProof(log.Document(index))
	trust.Log.Memory = learned
	if _, err := trust.Connect(t.Context(), m.url, nil); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("without the withdrawal: %v", err)
	}
}

// A clock that was set back does not make an old proof fresh.
func TestClientsClockHasAFloor(t *testing.T) {
	m, log := newMachine(t), logtest.New(t, 1)
	_, _, index := m.logged(log)
	m.SetProof(log.Document(index))
	trust := m.trust()
	trust.Log = log.Policy()
	trust.Log.Memory.Time = log.Time.Add(2 * time.Hour)
	if _, err := trust.Connect(t.Context(), m.url, nil); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("error %v", err)
	}
}

// A proof that is too large for any client never comes into the evidence.
func TestTooLargeAProofIsDropped(t *testing.T) {
	m := newMachine(t)
	m.SetProof(make([]byte, logproof.MaxDocumentBytes+1))
	s, err := m.trust().Connect(t.Context(), m.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Evidence.ReferenceValues.Proof) != 0 {
		t.Error("it is shown")
	}
}
