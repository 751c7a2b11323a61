package release

import (
	"bytes"
	"crypto"
	"slices"
	"sync"
	"time"
)

// Verifier is VerifyLogged for bytes that come again: a machine shows the same
// release at each connection, and the same proof until it has a fresher one.
// The zero value is ready, and safe for several goroutines.
type Verifier struct {
	// mu guards kept.
	mu   sync.Mutex
	kept []verified
}

// verified is what was shown and accepted, and by which terms.
type verified struct {
	manifest, bundle, proof []byte
	keys                    []crypto.PublicKey
	policy                  LogPolicy
	logged                  Logged
}

// maxKept is a few machines' releases, each with its proof.
const maxKept = 8

// VerifyLogged answers and fails as the function does. What was accepted is
// accepted again for the same bytes, keys and policy, until the cosignatures
// are too old; what was refused is looked at anew.
func (v *Verifier) VerifyLogged(manifest, bundle, proof []byte, keys []crypto.PublicKey, p LogPolicy, now time.Time) (Logged, error) {
	asked := verified{manifest: manifest, bundle: bundle, proof: proof, keys: keys, policy: p}
	if logged, ok := v.find(asked, now); ok {
		return logged, nil
	}
	logged, err := VerifyLogged(manifest, bundle, proof, keys, p, now)
	if err != nil {
		return logged, err
	}
	// What is kept must not change with the caller's buffers.
	asked.manifest, asked.bundle, asked.proof = slices.Clone(manifest), slices.Clone(bundle), slices.Clone(proof)
	asked.logged = logged
	v.keep(asked)
	return logged, nil
}

func (v *Verifier) find(asked verified, now time.Time) (Logged, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.kept {
		if k := &v.kept[i]; k.holds(now) && k.same(&asked) {
			return k.logged, true
		}
	}
	return Logged{}, false
}

func (k *verified) holds(now time.Time) bool {
	now = k.policy.Now(now, k.logged)
	return k.logged.NotAfter.IsZero() || !now.After(k.logged.NotAfter)
}

func (k *verified) same(o *verified) bool {
	return bytes.Equal(k.manifest, o.manifest) && bytes.Equal(k.bundle, o.bundle) && bytes.Equal(k.proof, o.proof) &&
		slices.EqualFunc(k.keys, o.keys, sameKey) && k.policy.equal(o.policy)
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// keep puts the newest first and lets the oldest go.
func (v *Verifier) keep(k verified) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kept = append([]verified{k}, v.kept[:min(len(v.kept), maxKept-1)]...)
}
