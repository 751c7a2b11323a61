package ownership_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

func approvalBody(c *ownership.Claim) ownership.ApprovalBody {
	return ownership.ApprovalBody{
		Claim: c.Digest(), Number: 3, From: attest.Digest{1}, Release: attest.ReleaseDigest{2}, Epoch: 4,
	}
}

func approve(t testing.TB, seed byte, b ownership.ApprovalBody) *ownership.Approval {
	t.Helper()
	a, err := ownership.Approve(key(seed), b)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestApproval(t *testing.T) {
	c := sign(t)
	a := approve(t, 1, approvalBody(c))
	got, err := ownership.ParseApproval(a.Encode(), c)
	if err != nil || got.Body != a.Body || !bytes.Equal(got.Encode(), a.Encode()) {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(a.Encode()) > ownership.MaxApprovalBytes {
		t.Errorf("it has %d bytes", len(a.Encode()))
	}
	other := approvalBody(c)
	other.Claim[0]++
	for name, refused := range map[string]struct {
		b    []byte
		want error
	}{
		"a stranger's":    {approve(t, 2, approvalBody(c)).Encode(), attest.ErrSignature},
		"another claim's": {approve(t, 1, other).Encode(), attest.ErrClaim},
		"a claim":         {c.Encode(), attest.ErrMalformed},
		"longer":          {append(bytes.Clone(a.Encode()), 0), attest.ErrMalformed},
		"a flipped bit":   {flipped(a.Encode(), len(a.Encode())-1), attest.ErrSignature},
	} {
		if _, err := ownership.ParseApproval(refused.b, c); !errors.Is(err, refused.want) {
			t.Errorf("%s: %v, want %v", name, err, refused.want)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestIncompleteApproval(t *testing.T) {
	c := sign(t)
	for name, change := range map[string]func(*ownership.ApprovalBody){
		"claim":   func(b *ownership.ApprovalBody) { b.Claim = attest.Digest{} },
		"number":  func(b *ownership.ApprovalBody) { b.Number = 0 },
		"from":    func(b *ownership.ApprovalBody) { b.From = attest.Digest{} },
		"release": func(b *ownership.ApprovalBody) { b.Release = attest.ReleaseDigest{} },
		"epoch":   func(b *ownership.ApprovalBody) { b.Epoch = 0 },
	} {
		b := approvalBody(c)
		change(&b)
		if _, err := ownership.Approve(key(1), b); !errors.Is(err, attest.ErrClaim) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUpdatePolicies(t *testing.T) {
	logged := ownership.UpdatePolicy{
		Consent: ownership.UpdateStanding, Keys: [][]byte{{1}}, Log: "log", Witnesses: []string{"a", "b"}, Quorum: 2, MaxAge: 60, Delay: 60,
	}
	for name, c := range map[string]struct {
		change func(*ownership.UpdatePolicy)
		ok     bool
	}{
		"whole":               {func(*ownership.UpdatePolicy) {}, true},
		"no log":              {func(p *ownership.UpdatePolicy) { p.Log, p.Witnesses, p.Quorum, p.MaxAge = "", nil, 0, 0 }, true},
		"no consent":          {func(p *ownership.UpdatePolicy) { p.Consent = 0 }, false},
		"another consent":     {func(p *ownership.UpdatePolicy) { p.Consent = 3 }, false},
		"asked with a delay":  {func(p *ownership.UpdatePolicy) { p.Consent = ownership.UpdateAsk }, false},
		"no key":              {func(p *ownership.UpdatePolicy) { p.Keys = nil }, false},
		"an empty key":        {func(p *ownership.UpdatePolicy) { p.Keys = [][]byte{{}} }, false},
		"a long key":          {func(p *ownership.UpdatePolicy) { p.Keys = [][]byte{make([]byte, 129)} }, false},
		"many keys":           {func(p *ownership.UpdatePolicy) { p.Keys = make([][]byte, 5) }, false},
		"no log, witnesses":   {func(p *ownership.UpdatePolicy) { p.Log = "" }, false},
		"a log, no witness":   {func(p *ownership.UpdatePolicy) { p.Witnesses, p.Quorum = nil, 0 }, false},
		"no quorum":           {func(p *ownership.UpdatePolicy) { p.Quorum = 0 }, false},
		"more than there are": {func(p *ownership.UpdatePolicy) { p.Quorum = 3 }, false},
		"no age":              {func(p *ownership.UpdatePolicy) { p.MaxAge = 0 }, false},
		"an age of ages":      {func(p *ownership.UpdatePolicy) { p.MaxAge = 1 << 40 }, false},
		"a delay of ages":     {func(p *ownership.UpdatePolicy) { p.Delay = 1 << 40 }, false},
		"many witnesses":      {func(p *ownership.UpdatePolicy) { p.Witnesses = make([]string, 7) }, false},
		"a long witness":      {func(p *ownership.UpdatePolicy) { p.Witnesses[1] = strings.Repeat("w", 257) }, false},
	} {
		p := logged
		p.Witnesses = []string{"a", "b"}
		c.change(&p)
		b := body()
		b.Update = p
		_, err := ownership.Sign(key(1), b)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, attest.ErrClaim) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All that a policy may hold, as a client of three witnesses has it, fits the index.
func TestClaimWithAPolicyFits(t *testing.T) {
	b := body()
	b.Update = ownership.UpdatePolicy{
		Consent: ownership.UpdateStanding, Keys: [][]byte{make([]byte, 91), make([]byte, 91)}, Log: strings.Repeat("l", 100),
		Witnesses: []string{strings.Repeat("a", 100), strings.Repeat("b", 100), strings.Repeat("c", 100)}, Quorum: 2, MaxAge: 60, Delay: 60,
	}
	c, err := ownership.Sign(key(1), b)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Encode()) > ownership.MaxBytes {
		t.Errorf("it has %d bytes, at most %d", len(c.Encode()), ownership.MaxBytes)
	}
	if _, err := ownership.Parse(c.Encode()); err != nil {
		t.Error(err)
	}
}

// One that does not fit is refused where it is made.
func TestClaimThatDoesNotFit(t *testing.T) {
	b := body()
	b.Update.Keys = [][]byte{make([]byte, 128), make([]byte, 128), make([]byte, 128), make([]byte, 128)}
	long := strings.Repeat("w", 256)
	b.Update.Log, b.Update.Witnesses, b.Update.Quorum, b.Update.MaxAge = long, []string{long, long, long, long, long, long}, 1, 1
	if _, err := ownership.Sign(key(1), b); !errors.Is(err, attest.ErrClaim) {
		t.Errorf("a claim that fits no index: %v", err)
	}
}

func FuzzParseApproval(f *testing.F) {
	c := sign(f)
	good := approve(f, 1, approvalBody(c)).Encode()
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ownership.ParseApproval(b, c)
		if err != nil {
			if !errors.Is(err, attest.ErrRefused) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if !bytes.Equal(a.Encode(), b) {
			t.Error("an approval does not keep its bytes")
		}
	})
}
