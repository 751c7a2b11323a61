package snp_test

import (
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
)

func refusedOrFine(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, attest.ErrRefused) {
		t.Errorf("error %v of no known kind", err)
	}
}

func FuzzParse(f *testing.F) {
	v := snptest.Draw(f, "Milan")
	k := v.VCEK(nil)
	e := endorse(f, v, k)
	genuine := k.Report(nil)
	f.Add(genuine)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := snp.Parse(b)
		refusedOrFine(t, err)
		if err != nil {
			return
		}
		if string(snptest.Encode(*r)[:0x2a0]) != string(b[:0x2a0]) {
			t.Error("a report has bytes that are in no field")
		}
		err = e.Check(r)
		refusedOrFine(t, err)
		if err == nil && string(b) != string(genuine) {
			t.Error("a report that was never signed passes")
		}
	})
}

func FuzzParseTable(f *testing.F) {
	f.Add(snptest.Draw(f, "Milan").VCEK(nil).Table())
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := snp.ParseTable(b)
		refusedOrFine(t, err)
		_, _, err = all.Leaf(snp.VCEK)
		refusedOrFine(t, err)
	})
}

func FuzzEndorsement(f *testing.F) {
	certificate := snptest.Draw(f, "Milan").VCEK(nil).Certificate
	f.Add([]byte{2, 1, 1}, []byte("\x16\x08Milan-B0"), snptest.HWID[:], []byte{})
	f.Add([]byte{2, 2, 1, 0}, []byte("\x16\x00"), []byte{4, 1, 1}, []byte("\x16\x03abc"))
	f.Fuzz(func(t *testing.T, version, product, hwid, csp []byte) {
		refusedOrFine(t, snp.ReadExtensions(certificate, version, product, hwid, csp))
	})
}
