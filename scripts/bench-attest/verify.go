package main

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// verification is one kind of machine whose evidence is verified.
type verification struct {
	name string
	// floor are the signatures in it, by name.
	floor []primitive
	// install puts the hardware's stand-in into the machine and the policy.
	install func(testing.TB, *verifiertest.Machine, *verifier.Policy) error
	// allocs bounds the allocations of one; zero does not.
	allocs float64
}

// primitive is one verification of one signature.
type primitive struct {
	name  string
	curve elliptic.Curve
}

var (
	p256 = primitive{"ECDSA P-256 over SHA-256", elliptic.P256()}
	p384 = primitive{"ECDSA P-384 over SHA-384", elliptic.P384()}
)

func cases() []verification {
	return []verification{
		{name: "tpm", floor: []primitive{p256}, install: func(testing.TB, *verifiertest.Machine, *verifier.Policy) error { return nil }, allocs: allocsAtMost},
		{name: "snp", floor: []primitive{p256, p384}, install: func(t testing.TB, m *verifiertest.Machine, p *verifier.Policy) error {
			w := verifiertest.NewSNP(t, "Milan")
			w.Install(m, nil)
			p.SNP = w.Policy()
			return nil
		}},
		{name: "tdx", floor: []primitive{p256, p256, p256}, install: func(t testing.TB, m *verifiertest.Machine, p *verifier.Policy) error {
			x := verifiertest.NewTDX(t)
			p.TDX = x.Policy()
			return x.Install(m, nil)
		}},
	}
}

// eventLogBytes is as much log as a cloud's machine has.
const eventLogBytes = 40 << 10

// measure times the next evidence of a machine that is known: chains are kept,
// the quote and the reports are new.
func (c verification) measure() (r ratio, ok bool, err error) {
	err = within(func(b *testing.B) error {
		m := verifiertest.Boot(b)
		m.TPM.EventLog = make([]byte, eventLogBytes)
		p := m.Policy()
		if err := c.install(b, m, &p); err != nil {
			return err
		}
		terms, err := logged(b, m, p)
		if err != nil {
			return err
		}
		in := m.Input(b)
		verify := func() error { return accept(terms, in) }
		floor := floorOf(c.floor)
		if err := errors.Join(verify(), floor()); err != nil {
			return err
		}
		value, least := inTurns(verify, floor)
		allocs := testing.AllocsPerRun(100, func() { err = errors.Join(err, verify()) })
		r = ratio{Value: value.Seconds() * 1e6, Floor: least.Seconds() * 1e6, Ratio: value.Seconds() / least.Seconds()}
		ok = r.Ratio <= verifyAtMost && (c.allocs == 0 || allocs < c.allocs)
		fmt.Printf("%-6s %8.1f us, floor %8.1f us: %.2f (bound %.1f), %.0f allocations, %d bytes of evidence; floor: %v\n",
			c.name, r.Value, r.Floor, r.Ratio, verifyAtMost, allocs, len(in.Evidence), names(c.floor))
		return err
	})
	return r, ok, err
}

// logged signs the machine's release, puts it into a log that two witnesses
// cosign, and has the machine show all of it.
func logged(tb testing.TB, m *verifiertest.Machine, p verifier.Policy) (bundle.Terms, error) {
	manifest, err := m.Manifest()
	if err != nil {
		return bundle.Terms{}, err
	}
	parsed, err := release.ParseManifest(manifest)
	if err != nil {
		return bundle.Terms{}, err
	}
	key, log := logtest.NewReleaseKey(tb), logtest.New(tb, 2)
	statement := release.EntryOf(parsed, attest.ReleaseDigest(attest.Sum(manifest)))
	index := log.Add(key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &statement}))
	m.Values = evidence.ReferenceValues{Manifest: manifest, Bundle: logtest.NewBundle(tb, key, manifest), Proof: log.Document(index)}
	return bundle.Terms{
		Verifier: new(verifier.Verifier), Releases: new(release.Verifier), Policy: p,
		Keys: []crypto.PublicKey{key.Public()}, Log: log.Policy(), At: p.Now,
	}, nil
}

// accept is the whole of what a client does with evidence.
func accept(t bundle.Terms, in verifiertest.Input) error {
	judged, err := t.Judge(bundle.Given{Evidence: in.Evidence, Nonce: in.Nonce, Channel: in.Channel}, pinned)
	if err == nil && !judged.Result.Accepted() {
		return fmt.Errorf("refused: %+v", judged.Result.Findings)
	}
	return err
}

func pinned(*verifier.Verified) (verifier.Activation, error) { return verifier.ActivatedBefore, nil }

// rounds of so many calls each are timed in turns. Each round gives a ratio,
// and the median counts: whatever else the machine does in a round touches both.
const (
	rounds = 101
	calls  = 16
)

// inTurns is the time of one call of each, in the round of the median ratio.
func inTurns(a, b func() error) (of, floor time.Duration) {
	type pair struct{ a, b time.Duration }
	pairs := make([]pair, rounds)
	for i := range pairs {
		pairs[i] = pair{timed(a), timed(b)}
	}
	slices.SortFunc(pairs, func(x, y pair) int { return cmp.Compare(float64(x.a)/float64(x.b), float64(y.a)/float64(y.b)) })
	median := pairs[rounds/2]
	return median.a, median.b
}

func timed(f func() error) time.Duration {
	begun := time.Now()
	for range calls {
		f() //nolint:errcheck // it succeeded before, on the same input
	}
	return time.Since(begun) / calls
}

// floorOf verifies one signature of each kind.
func floorOf(primitives []primitive) func() error {
	var all []func() bool
	for _, p := range primitives {
		key, err := ecdsa.GenerateKey(p.curve, rand.Reader)
		if err != nil {
			return func() error { return err }
		}
		digest := digestFor(p.curve)
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
		if err != nil {
			return func() error { return err }
		}
		all = append(all, func() bool { return ecdsa.VerifyASN1(&key.PublicKey, digest, signature) })
	}
	return func() error {
		for _, verify := range all {
			if !verify() {
				return attest.ErrSignature
			}
		}
		return nil
	}
}

func digestFor(c elliptic.Curve) []byte {
	if c == elliptic.P384() {
		d := sha512.Sum384([]byte("signed"))
		return d[:]
	}
	d := sha256.Sum256([]byte("signed"))
	return d[:]
}

func names(primitives []primitive) []string {
	var all []string
	for _, p := range primitives {
		all = append(all, p.name)
	}
	return all
}
