package enrol_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/voucher"
	"github.com/toolshed-cloud/shed/providers"
)

// cloud names the key of one machine.
type cloud struct {
	key   []byte
	err   error
	asked int
	// during is what happens while it is asked; nil for nothing.
	during func()
}

func (c *cloud) EndorsementKey(_ context.Context, id providers.MachineID) ([]byte, error) {
	c.asked++
	if c.during != nil {
		c.during()
	}
	if id != machineID {
		return nil, providers.Errorf(providers.CodeNotFound, "machine %s is not here", id)
	}
	return c.key, c.err
}

// named is a gate whose machine has no certificate, and the cloud that names its
// key.
func named(t *testing.T) (*gate, *cloud) {
	t.Helper()
	g := newGateOf(t, swtpmtest.StartUncertified(t))
	c := &cloud{key: g.tpm.EKPublic()}
	g.voucher, g.foreign = newVoucher(t, c), []verifier.TrustAnchor{newVoucher(t, c).Anchor()}
	return g, c
}

func newVoucher(t *testing.T, c *cloud) *voucher.Voucher {
	t.Helper()
	key, err := enrol.LoadKey(filepath.Join(t.TempDir(), "voucher.key"), "a test's key", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := voucher.NewRoot(rand.Reader, key, "cumulus", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &voucher.Voucher{Provider: "cumulus", Endorser: c, Key: key, Root: root, Clock: time.Now, Random: rand.Reader}
}

// A machine whose TPM has no certificate enrols where its provider names its key,
// at the provider's tier and in words that say whose word it is; it comes back
// without the provider being asked again.
func TestNamedKeyEnrols(t *testing.T) {
	g, c := named(t)
	var found attest.AttestationResult
	g.appraise = func(v *verifier.Verified, a verifier.Activation, p verifier.Policy) (attest.AttestationResult, error) {
		r, err := verifier.Appraise(v, a, p)
		found = r
		return r, err
	}
	r := g.dial().enrol()
	if !r.Accepted || found.Tiers.Identity != attest.TierProviderRooted {
		t.Fatalf("%s; %+v", r.Reason, found.Findings)
	}
	if said := found.Finding(attest.InstanceIdentity).Reason; !strings.Contains(said, "the control plane, of keys that its provider cumulus names") {
		t.Errorf("the appraisal says %q", said)
	}
	if r := g.dial().enrol(); !r.Accepted || c.asked != 1 {
		t.Errorf("the second time: %q; asked %d times", r.Reason, c.asked)
	}
}

// What the machine is to show others is among the endorsements, beside the rest.
func TestNamedKeyIsCertified(t *testing.T) {
	g, _ := named(t)
	for name, beside := range map[string]*evidence.Endorsements{
		"nothing else": nil, "a list": {RevocationLists: [][]byte{[]byte("list")}},
	} {
		g.endorsements = nil
		if beside != nil {
			var err error
			if g.endorsements, err = beside.Encode(); err != nil {
				t.Fatal(err)
			}
		}
		got, err := evidence.DecodeEndorsements(g.dial().begin().Endorsements)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		certificate, err := x509.ParseCertificate(got.EKCertificate)
		if err != nil || string(certificate.RawSubjectPublicKeyInfo) != string(g.tpm.EKPublic()) {
			t.Errorf("%s: %v", name, err)
		}
		if beside != nil && len(got.RevocationLists) != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, spoil := range map[string]func(){
		"a file that cannot be read": func() { g.unreadable = errors.New("no such file") },
		"one that is no endorsement": func() { g.endorsements, g.unreadable = []byte("nothing"), nil },
	} {
		spoil()
		if r := g.dial().enrol(); !r.Accepted {
			t.Errorf("%s: %s", name, r.Reason)
		}
	}
}

// A machine with the right token and another TPM than the provider names is
// refused, and the operator sees why; nothing else changes.
func TestOtherKeyThanNamed(t *testing.T) {
	g, c := named(t)
	other, err := attester.Open(swtpmtest.StartUncertified(t))
	if err != nil {
		t.Fatal(err)
	}
	c.key = other.EKPublic()
	a := g.dial()
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	i := g.instance()
	if !strings.Contains(i.Reason, "not the one that the provider cumulus names") || !i.Enrolment.EK.IsZero() || i.Plan.TokenHash.IsZero() {
		t.Errorf("the row is %q, %+v", i.Reason, i.Enrolment)
	}
	c.key = g.tpm.EKPublic()
	if r := g.dial().enrol(); !r.Accepted {
		t.Errorf("the machine itself: %s", r.Reason)
	}
}

// Whoever shows neither token nor the known key has nobody asked about them.
func TestStrangersAreNotAskedAbout(t *testing.T) {
	g, c := named(t)
	a := g.dial()
	in := a.introduction()
	in.Token[0]++
	if got := a.call(api.EnrolBeginPath, in, nil); got != http.StatusForbidden || c.asked != 0 {
		t.Errorf("%d; asked %d times", got, c.asked)
	}
	for name, spoil := range map[string]func(*api.EnrolBegin){
		"no key":       func(in *api.EnrolBegin) { in.EKPublic = nil },
		"no key's":     func(in *api.EnrolBegin) { in.EKPublic = []byte("key") },
		"a long one":   func(in *api.EnrolBegin) { in.EKPublic = make([]byte, 4096) },
		"another kind": func(in *api.EnrolBegin) { in.EKPublic = g.spki[:] },
	} {
		in := a.introduction()
		spoil(&in)
		if got := a.call(api.EnrolBeginPath, in, nil); got != http.StatusForbidden || c.asked != 0 {
			t.Errorf("%s: %d; asked %d times", name, got, c.asked)
		}
	}
}

// A provider in trouble is no verdict: the machine may come again.
func TestNamingFails(t *testing.T) {
	g, c := named(t)
	c.err = providers.Errorf(providers.CodeThrottled, "too many requests")
	a := g.dial()
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusServiceUnavailable {
		t.Errorf("%d", got)
	}
	if i := g.instance(); !strings.Contains(i.Reason, "too many requests") {
		t.Errorf("the row says %q", i.Reason)
	}
	c.err = nil
	if r := g.dial().enrol(); !r.Accepted {
		t.Errorf("afterwards: %s", r.Reason)
	}
}

// Whoever shows a machine's key without its token writes nothing, also where the
// provider does not say whose it is.
func TestNamingFailsForAStranger(t *testing.T) {
	g, c := named(t)
	if r := g.dial().enrol(); !r.Accepted {
		t.Fatal(r.Reason)
	}
	before := g.instance()
	c.err = providers.Errorf(providers.CodeUnavailable, "not now")
	g.voucher = newVoucher(t, c)
	a := g.dial()
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusServiceUnavailable {
		t.Errorf("%d", got)
	}
	if after := g.instance(); after.Version != before.Version || after.Reason != before.Reason {
		t.Errorf("the row says %q, said %q", after.Reason, before.Reason)
	}
}

// An instance that is to go while its machine introduces itself learns nothing.
func TestDeletedWhileItsKeyIsNamed(t *testing.T) {
	g, c := named(t)
	c.during = func() { g.change(func(i *orchestrator.Instance) { i.Desired = orchestrator.Absent }) }
	a := g.dial()
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	if i := g.instance(); !i.Enrolment.ChallengedAt.IsZero() {
		t.Errorf("challenged at %s", i.Enrolment.ChallengedAt)
	}
}

// Without a provider that names keys, a machine without a certificate is refused.
func TestNobodyNamesKeys(t *testing.T) {
	g, _ := named(t)
	g.voucher = nil
	a := g.dial()
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	if i := g.instance(); !strings.Contains(i.Reason, "no endorsement certificate") {
		t.Errorf("the row says %q", i.Reason)
	}
}

// A certificate that was made for one connection's machine accepts nobody where
// the provider was not asked: a TPM that was named as one machine's does not come
// back as another, with that one's token.
func TestCertificateOfNamedKeyIsNotEnough(t *testing.T) {
	g, c := named(t)
	first := g.dial()
	handed, err := evidence.DecodeEndorsements(first.begin().Endorsements)
	if err != nil {
		t.Fatal(err)
	}
	a := g.dial()
	in := a.introduction()
	in.EKPublic, in.EKCertificate = nil, handed.EKCertificate
	var challenge api.EnrolChallenge
	if got := a.call(api.EnrolBeginPath, in, &challenge); got != http.StatusOK {
		t.Fatalf("%d", got)
	}
	if challenge.Endorsements, err = (&evidence.Endorsements{EKCertificate: handed.EKCertificate}).Encode(); err != nil {
		t.Fatal(err)
	}
	var r api.EnrolResult
	if got := a.call(api.EnrolFinishPath, a.answer(challenge), &r); got != http.StatusOK || r.Accepted {
		t.Errorf("%d: %+v", got, r)
	}
	if e := g.instance().Enrolment; e.Accepted || !strings.Contains(e.Verdict, "no accepted root") {
		t.Errorf("the verdict is %q", e.Verdict)
	}
	if c.asked != 1 {
		t.Errorf("asked %d times", c.asked)
	}
}

// A machine keeps the key that it first had, whatever the provider says later.
func TestNamedKeyStays(t *testing.T) {
	g, c := named(t)
	if r := g.dial().enrol(); !r.Accepted {
		t.Fatal(r.Reason)
	}
	other, err := attester.Open(swtpmtest.StartUncertified(t))
	if err != nil {
		t.Fatal(err)
	}
	g.tpm, c.key = other, other.EKPublic()
	a := g.dial()
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	g.change(func(i *orchestrator.Instance) { i.Plan.TokenHash = token.Hash() })
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("with a token: %d", got)
	}
}
