package tdx

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tdxtesting "github.com/google/go-tdx-guest/testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// captured is when Intel's collateral beside the vectors was valid.
var captured = time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC)

// capturedTail follows the quote of Sapphire Rapids in its file and is no part
// of it: its owners added it for a test of theirs.
const capturedTail = "\nextra bytes(only for testing purpose)\n"

// vector is a file of a real platform's or of Intel's, in the module cache.
func vector(tb testing.TB, name string) []byte {
	tb.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
	if err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testing", "testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func quoteOfSPR(tb testing.TB) []byte {
	return bytes.TrimSuffix(vector(tb, "tdx_prod_quote_SPR_E4.dat"), []byte(capturedTail))
}

func quoteOfCOS(tb testing.TB) []byte { return vector(tb, "ccel/cos-113-tdx-quote.dat") }

// genuineCollateral is Intel's of the platform of quoteOfSPR.
func genuineCollateral(tb testing.TB) *Collateral {
	tb.Helper()
	issuers := func(header map[string][]string) []byte {
		for _, values := range header {
			text, err := url.QueryUnescape(values[0])
			if err != nil {
				tb.Fatal(err)
			}
			return []byte(text)
		}
		tb.Fatal("no issuer chain")
		return nil
	}
	return &Collateral{
		TCBInfo: vector(tb, "sample_tcbInfo_response"), TCBInfoChain: issuers(tdxtesting.TcbInfoHeader),
		QEIdentity: vector(tb, "sample_qeIdentity_response"), QEIdentityChain: issuers(tdxtesting.QeIdentityHeader),
		PCKCRL: vector(tb, "pckcrl"), RootCRL: vector(tb, "rootcrl.der"),
	}
}

func TestGenuineQuote(t *testing.T) {
	q, err := Parse(quoteOfSPR(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := VerifyEndorsement(q.PCKChain, genuineCollateral(t), Terms{Roots: IntelRoots(), At: captured})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.verify(q); err != nil {
		t.Error(err)
	}
	if level, err := e.QEIdentity.match(&q.QE); err != nil || level.Status != UpToDate {
		t.Errorf("quoting enclave: %+v, %v", level, err)
	}
	if level, err := e.TCBInfo.module(&q.Report); err != nil || level != nil {
		t.Errorf("tdx module 0: %+v, %v", level, err)
	}
	// The platform was an early one, below all that Intel then rated; its owner's
	// tests expect the same.
	if _, err := e.Check(q); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("versions that intel does not rate: %v", err)
	}
	if e.PCK.FMSPC.String() != "50806f000000" || e.EvaluationDataNumber() != 15 {
		t.Errorf("fmspc %s, evaluation %d", e.PCK.FMSPC, e.EvaluationDataNumber())
	}
	if !e.Valid.Contains(captured) || e.Stale(captured) || e.NextUpdate.After(captured.AddDate(0, 0, 8)) {
		t.Errorf("valid %v, next update %s of %s", e.Valid, e.NextUpdate, e.Publisher)
	}
}

// A quote whose platform's collateral is not public: its signatures and its
// platform's certificates.
func TestGenuineQuoteWithPadding(t *testing.T) {
	raw := quoteOfCOS(t)
	q, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := chain.ParseAll("pck chain", q.PCKChain)
	if err != nil {
		t.Fatal(err)
	}
	path, err := chain.Verify(certificates[0], certificates[1:], IntelRoots(), time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	pck, err := parsePCK(path.Leaf())
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Endorsement{PCK: *pck, chain: q.PCKChain}).verify(q); err != nil {
		t.Error(err)
	}
	if q.Report.TEETCBSVN[1] != 1 || q.Report.TDAttributes != AttributeSEPTVEDisable {
		t.Errorf("tee_tcb_svn %x, attributes %#x", q.Report.TEETCBSVN, q.Report.TDAttributes)
	}
}

func TestGenuineQuoteRefused(t *testing.T) {
	if _, err := Parse(vector(t, "tdx_prod_quote_SPR_E4.dat")); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a tail: %v", err)
	}
	q, err := Parse(quoteOfSPR(t))
	if err != nil {
		t.Fatal(err)
	}
	late := captured.AddDate(0, 1, 0)
	if _, err := VerifyEndorsement(q.PCKChain, genuineCollateral(t), Terms{Roots: IntelRoots(), At: late}); !errors.Is(err, attest.ErrCollateral) {
		t.Errorf("collateral of a month ago: %v", err)
	}
	e, err := VerifyEndorsement(q.PCKChain, genuineCollateral(t), Terms{Roots: IntelRoots(), At: late, Grace: 40 * 24 * time.Hour})
	if err != nil || !e.Stale(late) {
		t.Errorf("collateral of a month ago with a grace of forty days: %v", err)
	}
	other, err := Parse(quoteOfCOS(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Check(other); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("another platform's quote: %v", err)
	}
}
