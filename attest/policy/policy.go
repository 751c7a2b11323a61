// Package policy reads the small file in which an owner says what they accept
// of a machine.
//
// Invariants: whatever the file leaves unset is an error that names the key and
// the line, and so is a key that is not known; a platform, a log or an
// authority is refused or not required only where the file says so in a word.
// Bytes are capped before they are parsed; the files that a policy names are
// read by the caller.
package policy

import (
	"crypto"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/google"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Version is the only version of the file that is read.
const Version = 1

// MaxBytes caps a policy file, MaxFile each file that it names, bytes.
const (
	MaxBytes = 256 << 10
	MaxFile  = 1 << 20
)

// MaxReleaseKeys caps the keys of one policy.
const MaxReleaseKeys = 8

// Policy is what one file says.
type Policy struct {
	// Verifier is what is accepted of a machine, but for the releases, the
	// epoch and the time, which are each verification's own.
	Verifier verifier.Policy
	// ReleaseKeys sign releases. At least one.
	ReleaseKeys []crypto.PublicKey
	// Log says which transparency log vouches for releases, but for the time's
	// floor and what was learned, which are the client's own.
	Log release.LogPolicy
	// Lifetime is how long a verification is trusted, per request.
	Lifetime time.Duration
}

// Open answers the content of a file that a policy names, at most MaxFile
// bytes. Its error is passed on.
type Open func(name string) ([]byte, error)

// Parse reads a policy of at most MaxBytes in YAML. Errors are
// attest.ErrPolicy with the line and the key, or what open answers.
func Parse(text []byte, open Open) (*Policy, error) {
	f := &file{open: open}
	o := f.root(text)
	f.version(o)
	p := &Policy{
		ReleaseKeys: o.get("release_keys").releaseKeys(),
		Log:         o.get("log").log(),
		Lifetime:    o.get("lifetime").duration(time.Second, maxLifetime),
	}
	v := &p.Verifier
	v.Grace = o.get("grace").duration(0, chain.MaxGrace)
	v.RevocationLists = o.get("revocation_lists").revocationLists()
	v.Minimum = o.get("minimum").minimum()
	v.TrustAnchors, v.EKRevocation = o.get("ek").keyRoots(nil)
	v.AKAnchors, v.AKRevocation = o.get("ak").keyRoots(googleRoots)
	v.SNP = o.get("snp").snp()
	v.TDX = o.get("tdx").tdx(v.Grace)
	v.Nitro = o.get("nitrotpm").nitro()
	v.Azure = o.get("azure").azure()
	o.end()
	if f.err != nil {
		return nil, f.err
	}
	return p, p.check()
}

// maxLifetime bounds how long a verification may be trusted.
const maxLifetime = 24 * time.Hour

// check has the verifier and the log say of each part that it is complete.
func (p *Policy) check() error {
	if err := p.Verifier.CheckButReleases(); err != nil {
		return err
	}
	return p.Log.CheckButFloor()
}

func (f *file) version(o object) {
	v := o.get("version")
	if text := v.text(); text != fmt.Sprint(Version) {
		v.fail("is %.16q, want %d", text, Version)
	}
}

// minimum are the least tiers; a dimension may be none where the file says so,
// but for identity.
func (v value) minimum() (t attest.Tiers) {
	o := v.object()
	t.Memory, t.Identity, t.Storage = o.get("memory").tier(), o.get("identity").tier(), o.get("storage").tier()
	if o.f.err == nil && t.Identity == attest.TierNone {
		o.get("identity").fail("is none: whose key it is that signs has to be worth something")
	}
	o.end()
	return t
}

// keyRoots is which authorities vouch for a kind of a TPM's keys; known are
// those that come with the program, where some do.
func (v value) keyRoots(known func() []verifier.TrustAnchor) (anchors []verifier.TrustAnchor, treatment chain.Treatment) {
	if v.is(refused) {
		return nil, chain.NotPublished
	}
	o := v.object()
	if roots := o.get("roots"); known != nil && roots.is(builtin) {
		anchors = known()
	} else {
		anchors = roots.trustAnchors()
	}
	treatment = o.get("revocation").treatment()
	o.end()
	return anchors, treatment
}

func (v value) trustAnchors() (anchors []verifier.TrustAnchor) {
	for _, root := range v.list(1, maxRoots) {
		r := root.object()
		certificate, tier := r.get("certificate"), r.get("tier").tier()
		r.end()
		if tier == attest.TierNone {
			r.get("tier").fail("is none: leave the root out")
		}
		for _, c := range certificate.certificates() {
			anchors = append(anchors, verifier.TrustAnchor{Certificate: c, Tier: tier})
		}
	}
	return anchors
}

// googleRoots are Google's, worth what a cloud's word for its own TPM is.
func googleRoots() (anchors []verifier.TrustAnchor) {
	for _, c := range google.Roots() {
		anchors = append(anchors, verifier.TrustAnchor{Certificate: c, Tier: attest.TierProviderRooted})
	}
	return anchors
}

// maxRoots caps the roots of one kind.
const maxRoots = 32

// refused is the word that a platform is not accepted with.
const refused = "refused"

func (v value) nitro() *verifier.NitroPolicy {
	if v.is(refused) {
		return nil
	}
	o := v.object()
	p := &verifier.NitroPolicy{
		Roots:  o.get("roots").builtinOr(awsRoots),
		MaxAge: o.get("max_age").duration(time.Second, maxLifetime),
	}
	o.end()
	return p
}
