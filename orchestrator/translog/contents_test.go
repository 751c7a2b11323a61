package translog_test

import (
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
)

// A release key is rotated by the key in use, from itself.
func TestReleaseKeyRotatesFromItself(t *testing.T) {
	w := newWorld(t)
	second, third := logtest.NewReleaseKey(t), logtest.NewReleaseKey(t)
	rotate := func(from, to logtest.ReleaseKey) logentry.Body {
		return logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: logentry.UseRelease, Old: from.DER(), New: to.DER()}}
	}
	w.add(w.key.Entry(rotate(w.key, second)))
	for name, entry := range map[string][]byte{
		"the first key again":        w.key.Entry(rotate(w.key, third)),
		"the first key, by the next": second.Entry(rotate(w.key, third)),
		"a stranger's, by the key":   second.Entry(rotate(third, w.key)),
	} {
		if _, err := w.log.Add(t.Context(), entry); !errors.Is(err, attest.ErrTransparency) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.add(second.Entry(rotate(second, third)))
	// A stop forgets nothing of it.
	w.close()
	w.open()
	keys := w.log.ReleaseKeys()
	if len(keys) != 3 || !third.PublicKey.Equal(keys[0]) || !w.key.PublicKey.Equal(keys[2]) {
		t.Errorf("%d release keys", len(keys))
	}
}

// Of the witnesses' keys those that the log asks rotate in it, by their own
// word.
func TestWitnessKeyRotates(t *testing.T) {
	w := newWorld(t)
	signer := func(name string) *checkpoint.Signer { return logtest.New(t, 0).NewSigner(checkpoint.KindWitness, name) }
	known, stranger, next := signer("w3.test"), signer("w4.test"), signer("w3.test")
	w.close()
	w.options.Witnesses = append(w.options.Witnesses, translog.Remote{URL: "http://127.0.0.1:1", Key: known.Key})
	w.open()
	rotate := func(from, to *checkpoint.Signer) logentry.Body {
		return logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{
			Use: logentry.UseWitness, Old: []byte(from.String()), New: []byte(to.String()),
		}}
	}
	sign := func(body logentry.Body, by *checkpoint.Signer) []byte {
		return logtest.SignEntry(t, body, []byte(by.String()), by.SignStatement)
	}
	for name, entry := range map[string][]byte{
		"a witness of others":   sign(rotate(stranger, signer("w4.test")), stranger),
		"by somebody else":      sign(rotate(known, next), stranger),
		"by the key that comes": sign(rotate(known, next), next),
	} {
		if _, err := w.log.Add(t.Context(), entry); !errors.Is(err, attest.ErrTransparency) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.log.Add(t.Context(), sign(rotate(known, next), known)); err != nil {
		t.Error(err)
	}
}

// Audit heads are the control plane's to state and nobody else's.
func TestAuditHeads(t *testing.T) {
	w := newWorld(t)
	plane := logtest.NewReleaseKey(t)
	w.close()
	w.options.AuditKey = plane.Public()
	w.open()
	head := logentry.Body{Kind: logentry.KindAuditHead, AuditHead: &logentry.AuditHead{Head: attest.Digest{1}}}
	w.add(plane.Entry(head))
	if _, err := w.log.Add(t.Context(), w.key.Entry(head)); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("by the release key: %v", err)
	}
}
