package tdx

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// Terms are what an endorsement is verified against.
type Terms struct {
	// Roots are the pinned roots: IntelRoots, or a test's own. At least one.
	Roots []*x509.Certificate
	// Grace is how long a statement or a revocation list is still used past its
	// next update, at most chain.MaxGrace; zero is none.
	Grace time.Duration
	// Lists are revocation lists beside the collateral's, which holds each
	// issuer's one: a caller may know of a newer one.
	Lists []*chain.List
	// At is the time at which all of it must be valid.
	At time.Time
}

// Endorsement is what Intel says of one platform, verified. It holds within
// Valid for every quote of the platform, so that the caller can keep it by the
// digest of what it was made from.
type Endorsement struct {
	PCK        PCK
	TCBInfo    *TCBInfo
	QEIdentity *QEIdentity
	// Valid is when every certificate, list and statement is valid, with the
	// grace that the terms gave.
	Valid chain.Interval
	// NextUpdate is when the first of them was or is to be replaced, and
	// Publisher whose that is.
	NextUpdate time.Time
	Publisher  string

	chain []byte
	terms Terms
	lists []*chain.List
}

// Stale reports whether something is past its next update and used in its
// grace: the appraisal warns.
func (e *Endorsement) Stale(at time.Time) bool { return at.After(e.NextUpdate) }

// EvaluationDataNumber is the older of the rounds of rating that the two
// statements are of.
func (e *Endorsement) EvaluationDataNumber() uint32 {
	return min(e.TCBInfo.EvaluationDataNumber, e.QEIdentity.EvaluationDataNumber)
}

// The subjects of Intel's certificates (Intel SGX PCK Certificate and CRL
// Profile Specification, section 1.3). All of them chain to one root, so that
// the name alone says what a key may sign.
const (
	subjectPCK       = "Intel SGX PCK Certificate"
	subjectPlatform  = "Intel SGX PCK Platform CA"
	subjectProcessor = "Intel SGX PCK Processor CA"
	subjectSigning   = "Intel SGX TCB Signing"
)

// VerifyEndorsement verifies a platform's certificates, as a quote carries
// them in PEM, and everything of the collateral: paths to a pinned root, both
// revocation lists, both statements' signatures and dates, and that the
// collateral speaks of this platform. Errors are attest.ErrPolicy for terms
// that are incomplete, attest.ErrMalformed, attest.ErrIdentity,
// attest.ErrRevoked, attest.ErrSignature, and attest.ErrCollateral for what is
// missing, not yet or no longer valid, or another platform's.
func VerifyEndorsement(pckChain []byte, c *Collateral, terms Terms) (*Endorsement, error) {
	lists, err := c.lists()
	if err != nil {
		return nil, err
	}
	e := &Endorsement{chain: bytes.Clone(pckChain), terms: terms, lists: append(lists, terms.Lists...)}
	if err := e.verifyPlatform(); err != nil {
		return nil, err
	}
	if err := e.verifyTCBInfo(c); err != nil {
		return nil, err
	}
	if err := e.verifyQEIdentity(c); err != nil {
		return nil, err
	}
	switch {
	case e.TCBInfo.FMSPC != e.PCK.FMSPC:
		return nil, fmt.Errorf("%w: tcb info is of fmspc %s, the platform's is %s", attest.ErrCollateral, e.TCBInfo.FMSPC, e.PCK.FMSPC)
	case e.TCBInfo.PCEID != e.PCK.PCEID:
		return nil, fmt.Errorf("%w: tcb info is of pceid %x, the platform's is %x", attest.ErrCollateral, e.TCBInfo.PCEID, e.PCK.PCEID)
	}
	return e, nil
}

func (e *Endorsement) verifyPlatform() error {
	// Some quoting enclaves count the text's final zero to it.
	path, err := e.path("pck chain", bytes.TrimSuffix(e.chain, []byte{0}), 3)
	if err != nil {
		return err
	}
	return e.read(path)
}

// read takes the platform out of its certificate, where the path's names say
// that it is one.
func (e *Endorsement) read(path *chain.Path) error {
	leaf, issuer := path.Leaf(), path.Certificates[1].Subject.CommonName
	if leaf.Subject.CommonName != subjectPCK || (issuer != subjectPlatform && issuer != subjectProcessor) {
		return fmt.Errorf("%w: pck chain is of %.40q by %.40q, not of a platform", attest.ErrIdentity, leaf.Subject.CommonName, issuer)
	}
	pck, err := parsePCK(leaf)
	if err != nil {
		return err
	}
	e.PCK = *pck
	return nil
}

// path verifies certificates, leaf first, that lead to a pinned root by as
// many as length, none of them revoked.
func (e *Endorsement) path(name string, b []byte, length int) (*chain.Path, error) {
	certificates, err := chain.ParseAll(name, b)
	if err != nil {
		return nil, err
	}
	path, err := chain.Verify(certificates[0], certificates[1:], e.terms.Roots, e.terms.At)
	if err != nil {
		return nil, err
	}
	if len(path.Certificates) != length {
		return nil, fmt.Errorf("%w: %s has a path of %d certificates, want %d", attest.ErrIdentity, name, len(path.Certificates), length)
	}
	revocations := chain.Revocations{Treatment: chain.Required, Lists: e.lists, Grace: e.terms.Grace}
	fresh, err := revocations.Check(path, e.terms.At)
	if err != nil {
		return nil, err
	}
	e.add(fresh.Valid, fresh.NextUpdate, "revocation list of "+fresh.Publisher)
	return path, nil
}

// signed verifies a statement by the certificates of who signed it, and that
// it speaks now.
func (e *Endorsement) signed(s statement, w Window, signers []byte) error {
	path, err := e.path("issuer chain of "+s.name, signers, 2)
	if err != nil {
		return err
	}
	if cn := path.Leaf().Subject.CommonName; cn != subjectSigning {
		return fmt.Errorf("%w: %s is signed by %.40q, want %q", attest.ErrIdentity, s.name, cn, subjectSigning)
	}
	key, err := p256("issuer of "+s.name, path.Leaf())
	if err != nil {
		return err
	}
	if err := s.verify(key); err != nil {
		return err
	}
	valid := chain.Interval{NotBefore: w.IssueDate, NotAfter: w.NextUpdate.Add(e.terms.Grace)}
	if !valid.Contains(e.terms.At) {
		return fmt.Errorf("%w: %s is of %s to %s with grace %s, not of %s", attest.ErrCollateral, s.name,
			w.IssueDate.Format(time.RFC3339), w.NextUpdate.Format(time.RFC3339), e.terms.Grace, e.terms.At.Format(time.RFC3339))
	}
	e.add(valid, w.NextUpdate, s.name)
	return nil
}

// add narrows when the endorsement is valid.
func (e *Endorsement) add(valid chain.Interval, next time.Time, publisher string) {
	if e.NextUpdate.IsZero() {
		e.Valid = valid
	} else {
		e.Valid = e.Valid.And(valid)
	}
	if e.NextUpdate.IsZero() || next.Before(e.NextUpdate) {
		e.NextUpdate, e.Publisher = next, publisher
	}
}

func (e *Endorsement) verifyTCBInfo(c *Collateral) error {
	info, s, err := parseTCBInfo(c.TCBInfo)
	if err != nil {
		return err
	}
	e.TCBInfo = info
	return e.signed(s, info.Window, c.TCBInfoChain)
}

func (e *Endorsement) verifyQEIdentity(c *Collateral) error {
	identity, s, err := parseQEIdentity(c.QEIdentity)
	if err != nil {
		return err
	}
	e.QEIdentity = identity
	return e.signed(s, identity.Window, c.QEIdentityChain)
}
