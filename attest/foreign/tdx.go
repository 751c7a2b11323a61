package foreign

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"

	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/tdx"
)

// TDX checks an Intel TDX quote, by collateral of Intel's where there is some;
// without it nothing but the quote's own signatures and certificates is looked
// at. Errors are those of package tdx and attest.ErrBinding.
func TDX(raw []byte, collateral *tdx.Collateral, a Asked) (*Result, error) {
	q, err := tdx.Parse(raw)
	if err != nil {
		return nil, err
	}
	r := &Result{Kind: "tdx-quote", At: a.At, Policy: NotAsked}
	if err := r.tdxGenuine(q, collateral, a); err != nil {
		return nil, err
	}
	return r, r.compare("report_data", q.Report.ReportData[:], a.Data)
}

// tdxGenuine checks a quote, and by collateral its platform.
func (r *Result) tdxGenuine(q *tdx.Quote, collateral *tdx.Collateral, a Asked) (err error) {
	if collateral == nil {
		err = r.tdxAlone(q, a)
	} else {
		err = r.tdxRated(q, collateral, a)
	}
	if err == nil {
		r.tdxFacts(q)
	}
	return err
}

// tdxAlone refuses by policy, which nothing was shown to: a quote without
// collateral rates no platform.
func (r *Result) tdxAlone(q *tdx.Quote, a Asked) error {
	pck, err := tdx.VerifyWithoutCollateral(q, r.tdxTerms(a).Roots, a.At)
	if err != nil {
		return err
	}
	r.verified("certificates of the platform lead to intel's root")
	r.verified("quote is signed by a key that the platform's quoting enclave names")
	r.fact("fmspc", "%s", pck.FMSPC)
	r.warn("whether intel vouches for the platform, its tdx module and its quoting enclave, or has revoked them, was not looked at: no collateral was given")
	if a.Policy != nil {
		r.judged([]string{"no collateral of intel's rates the platform"}, nil)
	}
	return nil
}

func (r *Result) tdxTerms(a Asked) tdx.Terms {
	terms := tdx.Terms{Roots: tdx.IntelRoots(), At: a.At}
	if a.Policy == nil {
		return terms
	}
	terms.Lists = a.Policy.Verifier.RevocationLists
	if p := a.Policy.Verifier.TDX; p != nil {
		terms.Roots, terms.Grace = p.Roots, *p.Grace
	}
	return terms
}

func (r *Result) tdxRated(q *tdx.Quote, collateral *tdx.Collateral, a Asked) error {
	e, err := tdx.VerifyEndorsement(q.PCKChain, collateral, r.tdxTerms(a))
	if err != nil {
		return err
	}
	r.verified("certificates of the platform lead to intel's root, and are on neither revocation list")
	r.verified("tcb info and quoting enclave's identity are intel's, of evaluation %d", e.EvaluationDataNumber())
	rating, err := e.Check(q)
	if err != nil {
		return err
	}
	r.verified("quote is signed by a key that the platform's quoting enclave names, and the enclave is intel's")
	r.fact("fmspc", "%s", e.PCK.FMSPC)
	r.fact("status", "%s", rating.Status)
	r.fact("tcb_date", "%s", date(rating.Date))
	for _, id := range rating.Advisories {
		r.warn("advisory %s", id)
	}
	if a.Policy == nil {
		return nil
	}
	if a.Policy.Verifier.TDX == nil {
		r.judged([]string{"the policy refuses Intel TDX"}, nil)
		return nil
	}
	found, err := a.Policy.Verifier.TDX.Appraise(&q.Report, e, rating, a.At)
	r.judged(found.Refusals, found.Warnings)
	return err
}

func (r *Result) tdxFacts(q *tdx.Quote) {
	t := &q.Report
	r.fact("version", "%d", q.Version)
	r.fact("tdx_module", "%d.%02d", t.TEETCBSVN[1], t.TEETCBSVN[0])
	r.fact("tee_tcb_svn", "%x", t.TEETCBSVN)
	r.fact("mrseam", "%s", t.MRSEAM)
	r.fact("td_attributes", "%#x", t.TDAttributes)
	r.fact("xfam", "%#x", t.XFAM)
	r.fact("mrtd", "%s", t.MRTD)
	for i, m := range t.RTMR {
		r.fact(fmt.Sprintf("rtmr%d", i), "%s", m)
	}
	r.fact("mrconfigid", "%s", t.MRCONFIGID)
	r.fact("mrowner", "%s", t.MROWNER)
	r.fact("mrownerconfig", "%s", t.MROWNERCONFIG)
	r.fact("mrservicetd", "%s", t.MRSERVICETD)
	if t.TDAttributes&tdx.AttributesUntrusted != 0 {
		r.warn("the td can be debugged by its host: nothing is kept from it")
	}
}

// Parts of the collateral, by the names that SortCollateral tells them by.
const (
	issuerSigning   = "Intel SGX TCB Signing"
	issuerPlatform  = "Intel SGX PCK Platform CA"
	issuerProcessor = "Intel SGX PCK Processor CA"
)

// SortCollateral finds the parts of collateral among files by what they hold:
// Intel's two statements in JSON, the certificates of who signed them, and two
// revocation lists, each in PEM, DER or hex as Intel's service writes them. A
// part that is not there is left empty, and its verification will say so.
func SortCollateral(files ...[]byte) *tdx.Collateral {
	c := new(tdx.Collateral)
	for _, b := range files {
		switch {
		case tdx.IsTCBInfo(b):
			c.TCBInfo = b
		case tdx.IsQEIdentity(b):
			c.QEIdentity = b
		default:
			sortDER(c, b)
		}
	}
	return c
}

func sortDER(c *tdx.Collateral, b []byte) {
	// Intel's service hands chains out in a header, as a URL spells them.
	if text, err := url.PathUnescape(string(b)); err == nil && bytes.HasPrefix(b, []byte("-----BEGIN%20")) {
		b = []byte(text)
	}
	if certificates, err := chain.ParseAll("collateral", b); err == nil {
		if certificates[0].Subject.CommonName == issuerSigning {
			c.TCBInfoChain, c.QEIdentityChain = b, b
		}
		return
	}
	if der, err := hex.DecodeString(string(bytes.TrimSpace(b))); err == nil {
		b = der
	}
	der := b
	if block, _ := pem.Decode(b); block != nil {
		der = block.Bytes
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return
	}
	if name := list.Issuer.CommonName; name == issuerPlatform || name == issuerProcessor {
		c.PCKCRL = b
	} else {
		c.RootCRL = b
	}
}
