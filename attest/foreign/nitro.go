package foreign

import (
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/nitro"
)

// Nitro checks an AWS NitroTPM document, which carries its own certificates.
// What is asked for is its nonce. Errors are those of package nitro and
// attest.ErrBinding.
func Nitro(raw []byte, a Asked) (*Result, error) {
	d, err := nitro.Parse(raw)
	if err != nil {
		return nil, err
	}
	terms := nitro.Terms{Roots: nitro.AWSRoots(), Revocations: chain.Revocations{Treatment: chain.NotPublished}, At: a.At}
	if a.Policy != nil {
		terms.Revocations.Lists, terms.Revocations.Grace = a.Policy.Verifier.RevocationLists, a.Policy.Verifier.Grace
		if p := a.Policy.Verifier.Nitro; p != nil {
			terms.Roots = p.Roots
		}
	}
	e, err := nitro.VerifyEndorsement(d.Certificate, d.Bundle, terms)
	if err != nil {
		return nil, err
	}
	if err := e.Check(d); err != nil {
		return nil, err
	}
	r := &Result{Kind: "nitro-document", At: a.At, Policy: NotAsked}
	r.verified("certificate of %q leads to aws's root", e.Subject)
	r.verified("document is signed by that key")
	r.nitroFacts(d)
	if err := r.compare("nonce", d.Nonce, a.Data); err != nil {
		return nil, err
	}
	r.nitroPolicy(d, a)
	return r, nil
}

func (r *Result) nitroFacts(d *nitro.Document) {
	r.fact("module_id", "%q", d.ModuleID)
	r.fact("timestamp", "%s", d.Timestamp.UTC().Format(time.RFC3339))
	r.fact("user_data", "%x", d.UserData)
	r.fact("public_key", "%x", d.PublicKey)
	for n := range uint8(nitro.Registers) {
		if value, ok := d.Registers[n]; ok {
			r.fact(fmt.Sprintf("pcr%d", n), "%x", value)
		}
	}
}

func (r *Result) nitroPolicy(d *nitro.Document, a Asked) {
	if a.Policy == nil {
		return
	}
	var refusals []string
	if p := a.Policy.Verifier.Nitro; p == nil {
		refusals = []string{"the policy refuses AWS NitroTPM"}
	} else if age := a.At.Sub(d.Timestamp).Abs(); age > p.MaxAge {
		refusals = []string{fmt.Sprintf("the document is %s from the time of verification, at most %s", age.Round(time.Second), p.MaxAge)}
	}
	r.judged(refusals, nil)
}
