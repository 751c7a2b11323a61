package verifier

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/google"
	"github.com/toolshed-cloud/shed/attest/internal/memo"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// endorsed is what others vouch with, parsed once for the same bytes. What a
// policy makes of it is kept too, for as long as that holds.
type endorsed struct {
	ek            *tpm.EK
	intermediates []*x509.Certificate
	// ak is nil where no cloud certified the attestation key, instance where its
	// certificate does not say which machine's it is.
	ak                 *tpm.AKCertificate
	akIntermediates    []*x509.Certificate
	instance           *google.Instance
	reportCertificates []*x509.Certificate
	lists              []*chain.List
	// tdx is nil where no collateral of Intel's came along.
	tdx *tdx.Collateral

	anchored          memo.Memo[*anchored]
	certified         memo.Memo[*anchored]
	snpEndorsements   memo.Memo[*snp.Endorsement]
	tdxEndorsements   memo.Memo[*tdx.Endorsement]
	nitroEndorsements memo.Memo[*nitro.Endorsement]
}

func parseEndorsed(b []byte) (*endorsed, error) {
	e, err := evidence.DecodeEndorsements(b)
	if err != nil {
		return nil, err
	}
	parsed := new(endorsed)
	// A cloud's TPM has none where the cloud vouches for it otherwise.
	if len(e.EKCertificate) > 0 {
		if parsed.ek, err = tpm.ParseEK(e.EKCertificate); err != nil {
			return nil, err
		}
	}
	if err := parsed.readAK(e); err != nil {
		return nil, err
	}
	if len(e.TDX) > 0 {
		if parsed.tdx, err = tdx.ParseCollateral(e.TDX); err != nil {
			return nil, err
		}
	}
	if parsed.intermediates, err = parseEach(e.EKIntermediates, "ek_intermediates", chain.Parse); err != nil {
		return nil, err
	}
	if parsed.reportCertificates, err = parseEach(e.ReportCertificates, "report_certificates", chain.Parse); err != nil {
		return nil, err
	}
	parsed.lists, err = parseEach(e.RevocationLists, "revocation_lists", chain.ParseList)
	return parsed, err
}

func (e *endorsed) readAK(shown *evidence.Endorsements) (err error) {
	if len(shown.AKCertificate) == 0 {
		return nil
	}
	if e.ak, err = tpm.ParseAKCertificate(shown.AKCertificate); err != nil {
		return err
	}
	if e.akIntermediates, err = parseEach(shown.AKIntermediates, "ak_intermediates", chain.Parse); err != nil {
		return err
	}
	if der := e.ak.Extension(google.OID); der != nil {
		e.instance, err = google.ParseInstance(der)
	}
	return err
}

func parseEach[T any](encoded [][]byte, name string, parse func(string, []byte) (T, error)) ([]T, error) {
	all := make([]T, 0, len(encoded))
	for _, der := range encoded {
		one, err := parse(name, der)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// anchored is a path to an accepted authority and the age of the revocation
// lists along it.
type anchored struct {
	path  *chain.Path
	fresh chain.Freshness
}

// ekAnchored is the endorsement key's path to one accepted authority. Errors
// are chain's.
func (e *endorsed) ekAnchored(root *x509.Certificate, p *Policy) (*anchored, error) {
	if e.ek == nil {
		return nil, fmt.Errorf("%w: the machine shows no endorsement certificate", attest.ErrIdentity)
	}
	return keep(&e.anchored, root, p, p.EKRevocation, func() (*anchored, error) {
		path, err := e.ek.Path(e.intermediates, root, p.Now)
		if err != nil {
			return nil, err
		}
		fresh, err := p.revocations(p.EKRevocation, e.lists).Check(path, p.Now)
		return &anchored{path: path, fresh: fresh}, err
	})
}

// akAnchored is the attestation key's own path to one accepted authority.
// Errors are chain's.
func (e *endorsed) akAnchored(root *x509.Certificate, p *Policy) (*anchored, error) {
	return keep(&e.certified, root, p, p.AKRevocation, func() (*anchored, error) {
		path, err := e.ak.Path(e.akIntermediates, root, p.Now)
		if err != nil {
			return nil, err
		}
		fresh, err := p.revocations(p.AKRevocation, e.lists).Check(path, p.Now)
		return &anchored{path: path, fresh: fresh}, err
	})
}

// keep answers what was found before where it still holds at the policy's
// time, and finds it anew otherwise.
func keep(m *memo.Memo[*anchored], root *x509.Certificate, p *Policy, t chain.Treatment, find func() (*anchored, error)) (*anchored, error) {
	if len(p.RevocationLists) > 0 {
		// A policy's own lists are no part of what is kept.
		return find()
	}
	key := append(p.key(t), root.Raw...)
	found, err := m.Get(key, func([]byte) (*anchored, error) { return find() })
	if err != nil || found.fresh.Valid.Contains(p.Now) {
		return found, err
	}
	return find()
}

// key names what of the policy a path's verification depends on.
func (p *Policy) key(t chain.Treatment) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(t)}, uint64(p.Grace))
}

// revocations joins the lists that came with the evidence and the policy's.
func (p *Policy) revocations(treatment chain.Treatment, lists []*chain.List) chain.Revocations {
	if len(p.RevocationLists) > 0 {
		lists = append(append([]*chain.List{}, lists...), p.RevocationLists...)
	}
	return chain.Revocations{Treatment: treatment, Lists: lists, Grace: p.Grace}
}

// telling is the error that says most of why no authority vouches: that a key
// was revoked says more than that another authority did not issue it.
func telling(a, b error) error {
	if a == nil || errors.Is(b, attest.ErrRevoked) || errors.Is(b, attest.ErrCollateral) && !errors.Is(a, attest.ErrRevoked) {
		return b
	}
	return a
}

// staleness says that a list is used past its next update; empty where none is.
func staleness(f chain.Freshness, at time.Time) string {
	if !f.Stale(at) {
		return ""
	}
	return "the revocation list of " + f.Publisher + " is past its next update of " + f.NextUpdate.UTC().Format(time.RFC3339) + " and used in its grace"
}
