package tsm_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest/attester/tsm"
	"github.com/toolshed-cloud/shed/attest/attester/tsm/tsmtest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
)

var data = [64]byte{1, 2, 3}

// echo makes a report of what was written.
func echo(in [64]byte) (report, certificates []byte, err error) {
	return append([]byte("report "), in[:]...), []byte("certificates"), nil
}

// From the stand-in kernel's quote to the verifier's verdict.
func TestTDXEndToEnd(t *testing.T) {
	p := tdxtest.Draw(t)
	k := &tsmtest.Kernel{Provider: tsm.TDX, Sign: func(in [64]byte) ([]byte, []byte, error) { return p.Quote(in, nil), nil, nil }}
	r, err := tsm.Get(k, rand.Reader, data)
	if err != nil {
		t.Fatal(err)
	}
	q, err := tdx.Parse(r.Report)
	if err != nil {
		t.Fatal(err)
	}
	e, err := tdx.VerifyEndorsement(q.PCKChain, p.Collateral(), p.Terms())
	if err != nil {
		t.Fatal(err)
	}
	if rating, err := e.Check(q); err != nil || rating.Status != tdx.UpToDate || q.Report.ReportData != data {
		t.Errorf("%+v, %v, over %x", rating, err, q.Report.ReportData)
	}
	if r.Provider != tsm.TDX || r.Certificates != nil || k.Entries() != 0 {
		t.Errorf("%s with %d bytes of certificates; %d entries left", r.Provider, len(r.Certificates), k.Entries())
	}
}

// The same for SNP, with the certificates that the host gives beside the
// report, and a chip's key and a provider's.
func TestSNPEndToEnd(t *testing.T) {
	v := snptest.Draw(t, "Genoa")
	for _, key := range []*snptest.Key{v.VCEK(nil), v.VLEK(nil)} {
		t.Run(key.Kind.String(), func(t *testing.T) {
			k := &tsmtest.Kernel{Provider: tsm.SNP, Sign: func(in [64]byte) ([]byte, []byte, error) {
				return key.Report(func(r *snp.Report) { r.ReportData = in }), key.Table(), nil
			}}
			got, err := tsm.Get(k, rand.Reader, data)
			if err != nil {
				t.Fatal(err)
			}
			r, err := snp.Parse(got.Report)
			if err != nil {
				t.Fatal(err)
			}
			certificates, err := snp.ParseTable(got.Certificates)
			if err != nil {
				t.Fatal(err)
			}
			leaf, authorities, err := certificates.Leaf(r.Signer)
			if err != nil {
				t.Fatal(err)
			}
			e, err := snp.VerifyEndorsement(leaf, authorities, []snp.Anchor{v.Anchor()}, v.Revocations(), snptest.Now)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Check(r); err != nil || r.ReportData != data {
				t.Errorf("%v, over %x", err, r.ReportData)
			}
		})
	}
}

func TestSNPHasCertificates(t *testing.T) {
	k := &tsmtest.Kernel{Provider: tsm.SNP, Sign: echo}
	r, err := tsm.Get(k, rand.Reader, data)
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := echo(data)
	if !bytes.Equal(r.Report, want) || string(r.Certificates) != "certificates" || r.Provider != tsm.SNP {
		t.Errorf("%+v", r)
	}
}

// Somebody else who writes to the entry gets a report over their own data; the
// count shows it, whatever is read next.
func TestInterference(t *testing.T) {
	for _, at := range []string{"outblob", "provider", "auxblob", "generation"} {
		for name, times := range map[string]int{"once": 1, "for ever": 1 << 20} {
			t.Run(at+" "+name, func(t *testing.T) {
				k := &tsmtest.Kernel{Provider: tsm.SNP, Sign: echo}
				reads := 0
				k.Before = func(entry, attribute string) {
					// The first read of the count is before the own write.
					if attribute == at {
						reads++
					}
					if attribute == at && times > 0 && (at != "generation" || reads%2 == 0) {
						times--
						if err := k.WriteFile(entry+"/inblob", []byte("other")); err != nil {
							t.Error(err)
						}
					}
				}
				r, err := tsm.Get(k, rand.Reader, data)
				want, _, _ := echo(data)
				if name == "once" && (err != nil || !bytes.Equal(r.Report, want)) {
					t.Errorf("%v, %v", r, err)
				}
				if name != "once" && !errors.Is(err, tsm.ErrContended) {
					t.Errorf("%v, %v", r, err)
				}
				if k.Entries() != 0 {
					t.Errorf("%d entries left", k.Entries())
				}
			})
		}
	}
}

func TestNoReport(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		kernel *tsmtest.Kernel
		want   error
	}{
		"no provider":      {&tsmtest.Kernel{}, tsm.ErrAbsent},
		"unknown provider": {&tsmtest.Kernel{Provider: "arm_cca_guest", Sign: echo}, tsm.ErrProvider},
		"failing": {&tsmtest.Kernel{Provider: tsm.TDX, Sign: func([64]byte) ([]byte, []byte, error) { return nil, nil, broken }},
			nil},
		"empty": {&tsmtest.Kernel{Provider: tsm.TDX, Sign: func([64]byte) ([]byte, []byte, error) { return nil, nil, nil }}, nil},
		"long": {&tsmtest.Kernel{Provider: tsm.TDX, Sign: func([64]byte) ([]byte, []byte, error) {
			return make([]byte, tsm.MaxAttribute+1), nil, nil
		}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := tsm.Get(c.kernel, rand.Reader, data)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("%v, %v, want %v", r, err, c.want)
			}
			if c.kernel.Entries() != 0 {
				t.Errorf("%d entries left", c.kernel.Entries())
			}
		})
	}
	if _, err := tsm.Get(&tsmtest.Kernel{Provider: tsm.TDX, Sign: echo}, bytes.NewReader(nil), data); err == nil {
		t.Error("a report without a name")
	}
	if _, err := tsm.Get(tsm.Dir(filepath.Join(t.TempDir(), "none")), rand.Reader, data); !errors.Is(err, tsm.ErrAbsent) {
		t.Errorf("a kernel without configfs: %v", err)
	}
}

// A name that is taken is drawn again, and what is there is left alone.
func TestNameTaken(t *testing.T) {
	k := &tsmtest.Kernel{Provider: tsm.SNP, Sign: echo}
	taken := bytes.Repeat([]byte{7}, 16)
	if err := k.Mkdir("shed-07070707070707070707070707070707"); err != nil {
		t.Fatal(err)
	}
	if _, err := tsm.Get(k, bytes.NewReader(append(taken, make([]byte, 16)...)), data); err != nil {
		t.Error(err)
	}
	if k.Entries() != 1 {
		t.Errorf("%d entries, want the one that was there", k.Entries())
	}
}

// Dir is files: what the kernel would do with them is not shown here.
func TestDir(t *testing.T) {
	root := t.TempDir()
	d := tsm.Dir(root)
	if err := d.Mkdir("entry"); err != nil {
		t.Fatal(err)
	}
	if err := d.Mkdir("entry"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an entry twice: %v", err)
	}
	if err := d.WriteFile("entry/inblob", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an attribute that the kernel does not have: %v", err)
	}
	long := filepath.Join(root, "entry", "outblob")
	if err := os.WriteFile(long, make([]byte, 2*tsm.MaxAttribute), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFile("entry/outblob", []byte("x")); err != nil {
		t.Error(err)
	}
	if b, err := d.ReadFile("entry/outblob"); err != nil || len(b) != tsm.MaxAttribute+1 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := os.Remove(long); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove("entry"); err != nil {
		t.Error(err)
	}
}
