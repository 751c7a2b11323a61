package foreign_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	tdxtesting "github.com/google/go-tdx-guest/testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/foreign"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// vector is a file of a module in the cache: genuine evidence.
func vector(tb testing.TB, module, name string) []byte {
	tb.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		tb.Fatal(err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(m.Dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func sev(tb testing.TB, name string) []byte {
	return vector(tb, "github.com/google/go-sev-guest", "verify/testdata/"+name)
}

func intel(tb testing.TB, name string) []byte {
	return vector(tb, "github.com/google/go-tdx-guest", "testing/testdata/"+name)
}

var milan = foreign.Asked{At: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)}

func certificates(tb testing.TB, files ...[]byte) snp.Certificates {
	tb.Helper()
	all, err := foreign.SNPCertificates(files...)
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func fact(r *foreign.Result, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func TestGenuineSNP(t *testing.T) {
	report, leaf := sev(t, "attestation.bin"), sev(t, "vcek.testcer")
	for name, files := range map[string][][]byte{"leaf alone": {leaf}, "with authorities": {leaf, sev(t, "milan.testcer")}} {
		r, err := foreign.SNP(report, certificates(t, files...), nil, milan)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if fact(r, "product") != "Milan" || fact(r, "tcb") != "fmc 0, bootloader 2, tee 0, snp 5, microcode 68" || r.Policy != foreign.NotAsked || len(r.Verified) != 3 {
			t.Errorf("%s: %+v", name, r)
		}
		// It is of a debuggable guest, and no list came along: both are said.
		if len(r.Warnings) != 2 {
			t.Errorf("%s: warnings %q", name, r.Warnings)
		}
		if b, err := json.Marshal(r); err != nil || !bytes.Contains(b, []byte(`"facts":{"version":"2","product":"Milan"`)) {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
	for name, c := range map[string]struct {
		report []byte
		asked  foreign.Asked
		want   error
	}{
		"a byte changed":   {flipped(report, 0x90), milan, attest.ErrSignature},
		"too short":        {report[1:], milan, attest.ErrMalformed},
		"after its time":   {report, foreign.Asked{At: milan.At.AddDate(20, 0, 0)}, attest.ErrIdentity},
		"other data asked": {report, foreign.Asked{At: milan.At, Data: []byte{1}}, attest.ErrBinding},
	} {
		if _, err := foreign.SNP(c.report, certificates(t, leaf), nil, c.asked); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// A policy judges what is genuine. Synthetic.
func TestSNPByPolicy(t *testing.T) {
	s := verifiertest.NewSNP(t, "Milan")
	for name, c := range map[string]struct {
		edit   func(*snp.Report)
		policy *verifier.SNPPolicy
		want   foreign.Verdict
	}{
		"good":  {nil, s.Policy(), foreign.Accepted},
		"debug": {func(r *snp.Report) { r.Policy |= snp.PolicyDebug }, s.Policy(), foreign.Refused},
		"vmpl":  {func(r *snp.Report) { r.VMPL = 1 }, s.Policy(), foreign.Refused},
	} {
		p := &policy.Policy{Verifier: verifier.Policy{SNP: c.policy}}
		list := s.Vendor.ARK.List(nil)
		lists, err := foreign.RevocationLists(list)
		if err != nil {
			t.Fatal(err)
		}
		r, err := foreign.SNP(s.Key.Report(c.edit), certificates(t, s.Key.Table()), lists, foreign.Asked{Policy: p, At: time.Now()})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.Policy != c.want || (c.want == foreign.Refused) != (len(r.Refusals) > 0) {
			t.Errorf("%s: %s, %q", name, r.Policy, r.Refusals)
		}
	}
	genuine, err := foreign.SNP(sev(t, "attestation.bin"), certificates(t, sev(t, "vcek.testcer")), nil,
		foreign.Asked{At: milan.At, Policy: new(policy.Policy)})
	if err != nil || genuine.Policy != foreign.Refused {
		t.Errorf("a policy that refuses the platform: %+v, %v", genuine, err)
	}
}

// spr is Intel's collateral of 2023 for a genuine quote of an early platform,
// as files of a directory.
func spr(t *testing.T) (quote []byte, files [][]byte) {
	t.Helper()
	// Its owners added a tail for a test of theirs.
	quote = bytes.TrimSuffix(intel(t, "tdx_prod_quote_SPR_E4.dat"), []byte("\nextra bytes(only for testing purpose)\n"))
	files = [][]byte{
		[]byte("# notes"), intel(t, "sample_tcbInfo_response"), intel(t, "sample_qeIdentity_response"),
		intel(t, "pckcrl"), intel(t, "rootcrl.der"),
	}
	for _, values := range tdxtesting.TcbInfoHeader {
		text, err := url.QueryUnescape(values[0])
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, []byte(text))
	}
	return quote, files
}

func TestGenuineTDX(t *testing.T) {
	quote, files := spr(t)
	at := foreign.Asked{At: time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC)}
	// Signatures hold; that Intel rates no platform as old as this one only its
	// collateral says, which the quote is refused by.
	r, err := foreign.TDX(quote, nil, at)
	if err != nil || fact(r, "fmspc") != "50806f000000" || len(r.Warnings) == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	other := at
	other.Data = []byte{1}
	if _, err := foreign.TDX(quote, nil, other); !errors.Is(err, attest.ErrBinding) {
		t.Errorf("other report data than was asked for: %v", err)
	}
	collateral := foreign.SortCollateral(files...)
	if collateral.TCBInfo == nil || collateral.QEIdentity == nil || collateral.PCKCRL == nil || collateral.RootCRL == nil || collateral.TCBInfoChain == nil {
		t.Errorf("parts are missing: %+v", collateral)
	}
	if _, err := foreign.TDX(quote, collateral, at); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("by collateral: %v", err)
	}
	for name, c := range map[string]struct {
		quote []byte
		want  error
	}{
		"a byte changed": {flipped(quote, 200), attest.ErrSignature},
		"a tail":         {append(bytes.Clone(quote), 1), attest.ErrMalformed},
	} {
		if _, err := foreign.TDX(c.quote, nil, at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	cos, err := foreign.TDX(intel(t, "ccel/cos-113-tdx-quote.dat"), nil, foreign.Asked{At: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), Policy: new(policy.Policy)})
	if err != nil || cos.Policy != foreign.Refused || fact(cos, "tdx_module") != "1.04" {
		t.Errorf("%+v, %v", cos, err)
	}
}

// A platform that its maker rates. Synthetic.
func TestTDXByPolicy(t *testing.T) {
	x := verifiertest.NewTDX(t)
	asked := foreign.Asked{At: tdxtest.Now, Policy: &policy.Policy{Verifier: verifier.Policy{TDX: x.Policy()}}, Data: make([]byte, 64)}
	r, err := foreign.TDX(x.Quote([64]byte{}, nil), x.Collateral(), asked)
	if err != nil || r.Policy != foreign.Accepted || fact(r, "status") != "UpToDate" {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = foreign.TDX(x.Quote([64]byte{}, func(d *tdxtest.Draft) { d.Report.TDAttributes |= tdx.AttributeDebug }), x.Collateral(), asked)
	if err != nil || r.Policy != foreign.Refused || len(r.Warnings) == 0 {
		t.Errorf("debug: %+v, %v", r, err)
	}
	good := x.Collateral()
	x.RevokePCK = true
	list, err := chain.ParseList("list", x.Collateral().PCKCRL)
	if err != nil {
		t.Fatal(err)
	}
	asked.Policy.Verifier.RevocationLists = []*chain.List{list}
	if _, err = foreign.TDX(x.Quote([64]byte{}, nil), good, asked); !errors.Is(err, attest.ErrRevoked) {
		t.Errorf("on a list of the policy's: %v", err)
	}
	x.RevokePCK = false
	asked.Policy = new(policy.Policy)
	if _, err = foreign.TDX(x.Quote([64]byte{}, nil), x.Collateral(), asked); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("another's root: %v", err)
	}
}

// A document of another authority than AWS is none of AWS's. Synthetic.
func TestNitro(t *testing.T) {
	m := nitrotest.Draw(t, nil)
	document := m.Document([]byte("nonce"), nil, nil, nil)
	at := m.Terms().At
	asked := foreign.Asked{At: at, Data: []byte("nonce"), Policy: &policy.Policy{
		Verifier: verifier.Policy{Nitro: &verifier.NitroPolicy{Roots: m.Terms().Roots, MaxAge: time.Hour}},
	}}
	r, err := foreign.Nitro(document, asked)
	if err != nil || r.Policy != foreign.Accepted || len(r.Verified) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	for name, c := range map[string]struct {
		document []byte
		want     error
	}{
		"none":             {[]byte("nonsense"), attest.ErrMalformed},
		"by another's key": {m.Document([]byte("nonce"), nil, nil, func(d *nitrotest.Draft) { d.Key = chaintest.P384(t) }), attest.ErrSignature},
		"another nonce":    {m.Document([]byte("other"), nil, nil, nil), attest.ErrBinding},
	} {
		if _, err := foreign.Nitro(c.document, asked); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	asked.Policy.Verifier.RevocationLists = []*chain.List{m.Revoked()}
	if _, err = foreign.Nitro(document, asked); !errors.Is(err, attest.ErrRevoked) {
		t.Errorf("on a list of the policy's: %v", err)
	}
	asked.Policy.Verifier.RevocationLists = nil
	asked.Policy.Verifier.Nitro.MaxAge = 1
	asked.At = at.Add(time.Minute)
	if r, err = foreign.Nitro(document, asked); err != nil || r.Policy != foreign.Refused {
		t.Errorf("old: %+v, %v", r, err)
	}
	if _, err = foreign.Nitro(document, foreign.Asked{At: at}); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("by aws's root: %v", err)
	}
	asked.Data = []byte("another")
	if _, err = foreign.Nitro(document, asked); !errors.Is(err, attest.ErrBinding) {
		t.Errorf("another nonce: %v", err)
	}
}
