package main

import (
	"errors"

	"github.com/toolshed-cloud/shed/attest/azure"
	"github.com/toolshed-cloud/shed/attest/eventlog"
	"github.com/toolshed-cloud/shed/attest/foreign"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// checkQuote checks a TPM's quote, with what vouches for its key where that is
// given.
func (f *rawFlags) checkQuote(a foreign.Asked) (*foreign.Result, error) {
	if err := f.quoteUsage(); err != nil {
		return nil, err
	}
	var q foreign.Quote
	for _, part := range []struct {
		name string
		into *[]byte
	}{{f.quote, &q.Attest}, {f.signature, &q.Signature}, {f.ak, &q.AK}, {f.eventLog, &q.EventLog}, {f.registers, &q.Registers}} {
		if part.name == "" {
			continue
		}
		b, err := readCapped(part.name, eventlog.MaxBytes)
		if err != nil {
			return nil, err
		}
		*part.into = b
	}
	switch {
	case f.hcl != "":
		return f.checkAzure(q, a)
	case len(f.akCerts) > 0:
		return f.checkCertified(q, a)
	}
	return foreign.TPM(q, a)
}

// quoteUsage refuses what a quote takes no notice of: without what vouches for
// its key nothing reads what vouches for that.
func (f *rawFlags) quoteUsage() error {
	switch {
	case f.signature == "" || f.ak == "":
		return cli.Usage(errors.New("a tpm's quote goes with its --signature and the --ak"))
	case f.hcl != "" && len(f.akCerts) > 0:
		return cli.Usage(errors.New("--hcl-report and --ak-certs are of different clouds"))
	case f.hcl == "" && (len(f.certs) > 0 || f.collateral != ""):
		return cli.Usage(errors.New("--certs and --collateral say nothing of a quote without its --hcl-report"))
	case f.hcl == "" && len(f.akCerts) == 0 && len(f.lists) > 0:
		return cli.Usage(errors.New("--crl says nothing of a quote without its --hcl-report or its --ak-certs"))
	}
	return nil
}

func (f *rawFlags) checkAzure(q foreign.Quote, a foreign.Asked) (*foreign.Result, error) {
	var p foreign.Paravisor
	var err error
	if p.Index, err = readCapped(f.hcl, azure.MaxSize); err != nil {
		return nil, err
	}
	if f.tdx != "" {
		if p.Quote, err = readCapped(f.tdx, tdx.MaxQuote); err != nil {
			return nil, err
		}
	}
	if p.Collateral, err = f.readCollateral(); err != nil {
		return nil, err
	}
	if p.Certificates, p.Lists, err = f.readSNP(); err != nil {
		return nil, err
	}
	return foreign.Azure(q, p, a)
}

func (f *rawFlags) checkCertified(q foreign.Quote, a foreign.Asked) (*foreign.Result, error) {
	files, err := readEach(f.akCerts)
	if err != nil {
		return nil, err
	}
	certificates, err := foreign.Certificates(files...)
	if err != nil {
		return nil, err
	}
	lists, err := f.readLists()
	if err != nil {
		return nil, err
	}
	return foreign.Certified(q, certificates, lists, a)
}
