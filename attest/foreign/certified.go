package foreign

import (
	"bytes"
	"crypto/x509"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/google"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Certificates reads files of certificates, in PEM or in DER, one or several
// each. Errors are attest.ErrMalformed.
func Certificates(files ...[]byte) (all []*x509.Certificate, err error) {
	for i, b := range files {
		some, err := chain.ParseAll(fmt.Sprintf("certificates %d", i+1), bytes.TrimSpace(b))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// Certified checks a TPM's quote, and that a cloud certified the key that
// signed it: the policy's authorities of attestation keys, or Google's. given
// are the key's certificate and those between it and the root, in any order.
// What is asked for is the quote's extra data. Errors are TPM's, package
// chain's, and attest.ErrBinding where no certificate is of the key.
func Certified(q Quote, given []*x509.Certificate, lists []*chain.List, a Asked) (*Result, error) {
	r, ak, err := genuine("certified-quote", q, a)
	if err != nil {
		return nil, err
	}
	leaf, others, err := certificateOf(ak, given)
	if err != nil {
		return nil, err
	}
	anchors, revocations := r.akTrust(lists, a)
	if len(anchors) == 0 {
		r.judged([]string{"the policy accepts no authority of attestation keys"}, nil)
		return r, nil
	}
	tier, err := r.certified(leaf, others, anchors, revocations, a)
	if err != nil {
		return nil, err
	}
	r.warn("a cloud that certifies the key runs the tpm: it is as honest as the cloud")
	if a.Policy != nil {
		r.judged(below(tier, a.Policy.Verifier.Minimum.Identity), nil)
	}
	return r, r.instance(leaf)
}

// below refuses a tier that is.
func below(tier, minimum attest.Tier) []string {
	if tier >= minimum {
		return nil
	}
	return []string{fmt.Sprintf("tier %s is below the minimum, %s", tier, minimum)}
}

// certificateOf finds the key's certificate.
func certificateOf(ak *tpm.AK, given []*x509.Certificate) (leaf *tpm.AKCertificate, others []*x509.Certificate, err error) {
	for _, c := range given {
		if !ak.Is(c.PublicKey) {
			others = append(others, c)
		} else if leaf, err = tpm.ParseAKCertificate(c.Raw); err != nil {
			return nil, nil, err
		}
	}
	if leaf == nil {
		return nil, nil, fmt.Errorf("%w: no certificate is of the key that signed the quote", attest.ErrBinding)
	}
	return leaf, others, nil
}

// akTrust is the policy's, or Google's root and whatever lists were given.
func (r *Result) akTrust(lists []*chain.List, a Asked) ([]verifier.TrustAnchor, chain.Revocations) {
	if a.Policy != nil {
		p := a.Policy.Verifier
		return p.AKAnchors, chain.Revocations{Treatment: p.AKRevocation, Lists: append(lists, p.RevocationLists...), Grace: p.Grace}
	}
	treatment := chain.RequiredWhereNamed
	if len(lists) == 0 {
		treatment = chain.NotPublished
		r.warn("whether a certificate was revoked was not looked at: no revocation list was given")
	}
	var anchors []verifier.TrustAnchor
	for _, root := range google.Roots() {
		anchors = append(anchors, verifier.TrustAnchor{Certificate: root, Tier: attest.TierProviderRooted})
	}
	return anchors, chain.Revocations{Treatment: treatment, Lists: lists}
}

// certified finds the authority that vouches for the key.
func (r *Result) certified(leaf *tpm.AKCertificate, others []*x509.Certificate, anchors []verifier.TrustAnchor, revocations chain.Revocations, a Asked) (attest.Tier, error) {
	var failed error
	for _, anchor := range anchors {
		path, err := leaf.Path(others, anchor.Certificate, a.At)
		if err != nil {
			failed = err
			continue
		}
		fresh, err := revocations.Check(path, a.At)
		if err != nil {
			return attest.TierNone, err
		}
		r.verified("certificate of the attestation key leads to %q", path.Root().Subject.String())
		if fresh.Lists > 0 {
			r.verified("%d revocation lists name none of the path", fresh.Lists)
		}
		if fresh.Stale(a.At) {
			r.warn("the revocation list of %s is past its next update and used in its grace", fresh.Publisher)
		}
		r.fact("tier", "%s", anchor.Tier)
		return anchor.Tier, nil
	}
	return attest.TierNone, failed
}

// instance shows which machine the certificate is of, where it says.
func (r *Result) instance(leaf *tpm.AKCertificate) error {
	der := leaf.Extension(google.OID)
	if der == nil {
		return nil
	}
	i, err := google.ParseInstance(der)
	if err != nil {
		return err
	}
	r.fact("machine", "%s", i)
	return nil
}
