package release_test

import (
	"bytes"
	"crypto"
	"errors"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// What is kept is accepted again for the same bytes and terms alone, and no
// longer than the cosignatures hold.
func TestVerifierKeepsWhatItMay(t *testing.T) {
	w := newWorld(t)
	var v release.Verifier
	shown := w.log.Document(w.index)
	verify := func(manifest, bundle, proof []byte, keys []crypto.PublicKey, p release.LogPolicy, now time.Time) error {
		_, err := v.VerifyLogged(manifest, bundle, proof, keys, p, now)
		return err
	}
	keys := []crypto.PublicKey{w.key.Public()}
	for range 2 {
		if err := verify(w.release.Manifest, w.release.Bundle, shown, keys, w.policy, w.now); err != nil {
			t.Fatal(err)
		}
	}
	withdrawn := w.policy
	withdrawn.Memory.Withdrawn = []attest.ReleaseDigest{w.release.Digest}
	floor := w.policy
	floor.TimeFloor = w.now.Add(2 * time.Hour)
	forged := logtest.NewBundle(t, logtest.NewReleaseKey(t), w.release.Manifest)
	aging := w.policy
	aging.MaxAge = time.Second
	seen := w.policy
	seen.Memory.Time = w.now.Add(2 * time.Hour)
	unasked := w.policy
	unasked.NotRequired = true
	elsewhere := w.policy
	elsewhere.Log = w.log.NewSigner(checkpoint.KindLog, logtest.Origin).Key
	rotated := w.policy
	rotated.Memory.Rotations = []release.Rotated{{
		Use: logentry.UseLog, Old: []byte(w.policy.Log.String()), New: []byte(elsewhere.Log.String()), Index: 3,
	}}
	early := w.policy
	early.Memory.Rotations = []release.Rotated{{
		Use: logentry.UseRelease, Old: w.key.DER(), New: logtest.NewReleaseKey(t).DER(), Index: w.index,
	}}
	stranger := []crypto.PublicKey{logtest.NewReleaseKey(t).Public()}
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"later":                          {verify(w.release.Manifest, w.release.Bundle, shown, keys, w.policy, w.now.Add(time.Hour)), attest.ErrTransparency},
		"withdrawn since":                {verify(w.release.Manifest, w.release.Bundle, shown, keys, withdrawn, w.now), attest.ErrTransparency},
		"a later floor":                  {verify(w.release.Manifest, w.release.Bundle, shown, keys, floor, w.now), attest.ErrTransparency},
		"a later time seen":              {verify(w.release.Manifest, w.release.Bundle, shown, keys, seen, w.now), attest.ErrTransparency},
		"a policy that is not whole":     {verify(w.release.Manifest, w.release.Bundle, shown, keys, unasked, w.now), attest.ErrPolicy},
		"another log":                    {verify(w.release.Manifest, w.release.Bundle, shown, keys, elsewhere, w.now), attest.ErrTransparency},
		"the log's key rotated since":    {verify(w.release.Manifest, w.release.Bundle, shown, keys, rotated, w.now), attest.ErrTransparency},
		"the release's key rotated then": {verify(w.release.Manifest, w.release.Bundle, shown, keys, early, w.now), attest.ErrTransparency},
		"another key":                    {verify(w.release.Manifest, w.release.Bundle, shown, stranger, w.policy, w.now), attest.ErrSignature},
		"another bundle":                 {verify(w.release.Manifest, forged, shown, keys, w.policy, w.now), attest.ErrSignature},
		"a lesser age":                   {verify(w.release.Manifest, w.release.Bundle, shown, keys, aging, w.now), attest.ErrTransparency},
		"no proof":                       {verify(w.release.Manifest, w.release.Bundle, nil, keys, w.policy, w.now), attest.ErrTransparency},
		"another manifest":               {verify(append(bytes.Clone(w.release.Manifest), ' '), w.release.Bundle, shown, keys, w.policy, w.now), attest.ErrSignature},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	// The caller's buffer is the caller's.
	shown[len(shown)-20] ^= 1
	if err := verify(w.release.Manifest, w.release.Bundle, shown, keys, w.policy, w.now); err == nil {
		t.Error("a changed proof is the one that was kept")
	}
}

// A proof that is enough for some of the witnesses is not kept for all.
func TestVerifierKeepsForOneQuorum(t *testing.T) {
	w := newWorld(t)
	var v release.Verifier
	shown := w.log.DocumentOf(w.signed(t, w.log.Head(), w.log.Signer, w.log.Witnesses[0]), w.index)
	for _, c := range []struct {
		quorum    int
		witnesses []release.Witness
		want      error
	}{
		{1, w.policy.Witnesses, nil}, {2, w.policy.Witnesses, attest.ErrTransparency}, {1, w.policy.Witnesses[1:], attest.ErrTransparency},
	} {
		p := w.policy
		p.Quorum, p.Witnesses = c.quorum, c.witnesses
		if _, err := v.VerifyLogged(w.release.Manifest, w.release.Bundle, shown, []crypto.PublicKey{w.key.Public()}, p, w.now); !errors.Is(err, c.want) {
			t.Errorf("%d of %d: %v, want %v", c.quorum, len(c.witnesses), err, c.want)
		}
	}
}
