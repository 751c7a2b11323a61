package tdx

import (
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

func refusedOrFine(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, attest.ErrRefused) {
		t.Errorf("error %v of no known kind", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := Parse(raw)
		refusedOrFine(t, err)
		if err != nil {
			return
		}
		if len(q.signed) != 48+q.Report.Kind.size() && len(q.signed) != 54+q.Report.Kind.size() {
			t.Errorf("%d signed bytes", len(q.signed))
		}
		refusedOrFine(t, (&Endorsement{PCK: PCK{key: q.attestation}, chain: q.PCKChain}).verify(q))
	})
}

func FuzzStatement(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		info, _, err := parseTCBInfo(b)
		refusedOrFine(t, err)
		if err == nil && (len(info.Levels) == 0 || info.IssueDate.IsZero()) {
			t.Errorf("tcb info without levels or date: %+v", info)
		}
		identity, _, err := parseQEIdentity(b)
		refusedOrFine(t, err)
		if err == nil && (len(identity.Levels) == 0 || identity.IssueDate.IsZero()) {
			t.Errorf("qe identity without levels or date: %+v", identity)
		}
	})
}

func FuzzExtension(f *testing.F) {
	f.Fuzz(func(t *testing.T, der []byte) {
		_, err := parseExtension(der)
		refusedOrFine(t, err)
	})
}

func FuzzCollateral(f *testing.F) {
	b, err := (&Collateral{TCBInfo: []byte("{}")}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCollateral(b)
		refusedOrFine(t, err)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil || string(again) != string(b) {
			t.Errorf("a second encoding: %x, %v", again, err)
		}
		_, err = c.lists()
		refusedOrFine(t, err)
	})
}
