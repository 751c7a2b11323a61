package verifier

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// NitroPolicy is which NitroTPM documents a verifier accepts. Every field must
// be set.
type NitroPolicy struct {
	// Roots are the pinned roots, as a rule nitro.AWSRoots. At least one.
	Roots []*x509.Certificate
	// MaxAge is how old a document may be by its own time.
	MaxAge time.Duration
}

func (p *NitroPolicy) check() error {
	if len(p.Roots) == 0 || slices.Contains(p.Roots, nil) || p.MaxAge <= 0 {
		return fmt.Errorf("%w: nitrotpm: no root or no maximum age", attest.ErrPolicy)
	}
	return nil
}

// nitroReport is an AWS NitroTPM attestation document, with the data of
// attest.ReportData as its user data.
type nitroReport struct{ document *nitro.Document }

var _ report = nitroReport{}

func parseNitro(r evidence.Report) (nitroReport, error) {
	if len(r.Certificates) > 0 {
		return nitroReport{}, fmt.Errorf("%w: a NitroTPM document carries its own certificates, and others are beside it", attest.ErrMalformed)
	}
	d, err := nitro.Parse(r.Report)
	return nitroReport{d}, err
}

func (nitroReport) name() string { return "AWS NitroTPM" }

func (r nitroReport) names(_ *tpm.AK, data [64]byte) bool {
	return bytes.Equal(r.document.UserData, data[:])
}

func (r nitroReport) appraise(e *endorsed, p *Policy) (platform, error) {
	if p.Nitro == nil {
		return platform{}, fmt.Errorf("%w: the policy does not say which such machines are accepted", attest.ErrPlatform)
	}
	endorsement, err := e.nitroEndorsement(r.document, p)
	if err != nil {
		return platform{}, err
	}
	if err := endorsement.Check(r.document); err != nil {
		return platform{}, err
	}
	judged := platform{
		vouched: attest.TierProviderRooted, keeps: attest.TierProviderRooted,
		because: "the cloud's own document names the attestation key: its tpm is as honest as the cloud",
		shown:   fmt.Sprintf("a document of %s, signed by aws at %s", r.document.ModuleID, r.document.Timestamp.UTC().Format(time.RFC3339)),
	}
	if age := p.Now.Sub(r.document.Timestamp).Abs(); age > p.Nitro.MaxAge {
		judged.refusals = append(judged.refusals, fmt.Sprintf("the document is %s from now, at most %s", age.Round(time.Second), p.Nitro.MaxAge))
	}
	return judged, nil
}

// nitroEndorsement is AWS's word for the key that signed the document. Errors
// are nitro.VerifyEndorsement's.
func (e *endorsed) nitroEndorsement(d *nitro.Document, p *Policy) (*nitro.Endorsement, error) {
	terms := nitro.Terms{Roots: p.Nitro.Roots, Revocations: p.revocations(chain.NotPublished, e.lists), At: p.Now}
	find := func([]byte) (*nitro.Endorsement, error) {
		return nitro.VerifyEndorsement(d.Certificate, d.Bundle, terms)
	}
	if len(p.RevocationLists) > 0 {
		// A policy's own lists are no part of what is kept.
		return find(nil)
	}
	found, err := e.nitroEndorsements.Get(nitroKey(d, p), find)
	if err != nil || found.Fresh.Valid.Contains(p.Now) {
		return found, err
	}
	return find(nil)
}

// nitroKey names what a signer's endorsement depends on, but for what comes
// with all evidence and the time.
func nitroKey(d *nitro.Document, p *Policy) []byte {
	k := newKey(8192)
	k.number(uint64(p.Grace))
	k.certificates(p.Nitro.Roots)
	k.number(uint64(len(d.Bundle)))
	for _, der := range d.Bundle {
		k.bytes(der)
	}
	k.bytes(d.Certificate)
	return k
}

// differing names the registers of the document that are not what this boot of
// the release must show. The quote has the same events in another bank.
func (r nitroReport) differing(boot *release.Boot) []string {
	separator, zero := sha512.Sum384(make([]byte, 4)), nitro.Register{}
	closed := sha512.Sum384(append(zero[:], separator[:]...))
	var wrong []string
	for n, got := range r.document.Registers {
		want := boot.SHA384[strconv.Itoa(int(n))]
		switch n {
		case 2, 3:
			want = hex.EncodeToString(closed[:])
		case 12, 13:
			want = hex.EncodeToString(zero[:])
		}
		if want != "" && want != hex.EncodeToString(got[:]) {
			wrong = append(wrong, registerName(n))
		}
	}
	return wrong
}
