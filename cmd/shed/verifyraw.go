package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/foreign"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// rawFlags name evidence from elsewhere.
type rawFlags struct {
	snp, tdx, nitro, quote string
	certs                  []string
	lists                  []string
	collateral             string
	signature, ak          string
	hcl                    string
	akCerts                []string
	eventLog, registers    string
	data                   string
}

func (f *rawFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.snp, "snp-report", "", "check an AMD SEV-SNP report")
	flags.StringArrayVar(&f.certs, "certs", nil, "certificates beside the report, a file or a directory; repeatable")
	flags.StringArrayVar(&f.lists, "crl", nil, "revocation list, PEM or DER; repeatable")
	flags.StringVar(&f.tdx, "tdx-quote", "", "check an Intel TDX quote")
	flags.StringVar(&f.collateral, "collateral", "", "Intel's collateral, a file or a directory")
	flags.StringVar(&f.nitro, "nitro-document", "", "check an AWS NitroTPM document")
	flags.StringVar(&f.quote, "tpm-quote", "", "check a TPM's quote, a TPMS_ATTEST")
	flags.StringVar(&f.signature, "signature", "", "the quote's signature, a TPMT_SIGNATURE")
	flags.StringVar(&f.ak, "ak", "", "the key that signed the quote: TPM2B_PUBLIC, TPMT_PUBLIC or PEM")
	flags.StringVar(&f.hcl, "hcl-report", "", "what Azure's paravisor left in NV index 0x01400001, beside a quote by its key")
	flags.StringArrayVar(&f.akCerts, "ak-certs", nil, "the key's certificate, as Google issues it, and those above it, a file or a directory; repeatable")
	flags.StringVar(&f.eventLog, "event-log", "", "firmware's event log, as the kernel shows it")
	flags.StringVar(&f.registers, "registers", "", "the quoted registers, as tpm2_pcrread prints them")
	flags.StringVar(&f.data, "report-data", "", "what the evidence must carry as its maker's own, hex")
}

// kinds are the flags that name a piece of evidence.
func (f *rawFlags) kinds() (named []string) {
	for _, flag := range []struct{ name, value string }{
		{"--snp-report", f.snp}, {"--tdx-quote", f.tdx}, {"--nitro-document", f.nitro}, {"--tpm-quote", f.quote},
	} {
		// The quote of the report in Azure's index is a part of it.
		part := flag.name == "--tdx-quote" && f.hcl != "" && f.quote != ""
		if flag.value != "" && !part {
			named = append(named, flag.name)
		}
	}
	return named
}

// verifyRaw checks one piece of evidence. A policy is asked only where one is
// named: that in the client's directory is about the owner's own machines.
func (o *verifyOptions) verifyRaw(cmd *cobra.Command) error {
	asked, err := o.asked()
	if err != nil {
		return err
	}
	r, err := o.raw.check(asked)
	if err != nil {
		return judgedAt(err, asked.At)
	}
	if err := o.showRaw(cmd, r); err != nil {
		return err
	}
	if r.Policy == foreign.Refused {
		return fmt.Errorf("%w: by the policy: %s", attest.ErrPlatform, r.Refusals[0])
	}
	return nil
}

// judgedAt adds the time to a refusal, which may be for that.
func judgedAt(err error, at time.Time) error {
	if !errors.Is(err, attest.ErrRefused) {
		return err
	}
	return cli.Hinted(err, "judged as of %s; --at names another time", at.UTC().Format(time.RFC3339))
}

func (o *verifyOptions) asked() (a foreign.Asked, err error) {
	a.At = time.Now()
	if !o.at.IsZero() {
		a.At = o.at.Time
	}
	if o.raw.data != "" {
		if a.Data, err = hex.DecodeString(o.raw.data); err != nil {
			return a, cli.Usage(fmt.Errorf("report data: %w", err))
		}
	}
	if name := cmp.Or(o.client.policy, os.Getenv("SHED_POLICY")); name != "" {
		a.Policy, err = readPolicy(name)
	}
	return a, err
}

func (f *rawFlags) check(a foreign.Asked) (*foreign.Result, error) {
	switch {
	case f.snp != "":
		return f.checkSNP(a)
	case f.tdx != "" && f.quote == "":
		return f.checkTDX(a)
	case f.nitro != "":
		raw, err := readCapped(f.nitro, evidence.MaxReport)
		if err != nil {
			return nil, err
		}
		return foreign.Nitro(raw, a)
	}
	return f.checkQuote(a)
}

// maxRawFile caps each file beside a piece of evidence.
const maxRawFile = chain.MaxList * 3 / 2

func (f *rawFlags) checkSNP(a foreign.Asked) (*foreign.Result, error) {
	raw, err := readCapped(f.snp, evidence.MaxReport)
	if err != nil {
		return nil, err
	}
	certificates, lists, err := f.readSNP()
	if err != nil {
		return nil, err
	}
	return foreign.SNP(raw, certificates, lists, a)
}

// readSNP reads what goes beside a report of AMD's.
func (f *rawFlags) readSNP() (snp.Certificates, []*chain.List, error) {
	files, err := readEach(f.certs)
	if err != nil {
		return nil, nil, err
	}
	certificates, err := foreign.SNPCertificates(files...)
	if err != nil {
		return nil, nil, err
	}
	lists, err := f.readLists()
	return certificates, lists, err
}

func (f *rawFlags) readLists() ([]*chain.List, error) {
	texts, err := readEach(f.lists)
	if err != nil {
		return nil, err
	}
	return foreign.RevocationLists(texts...)
}

func (f *rawFlags) checkTDX(a foreign.Asked) (*foreign.Result, error) {
	raw, err := readCapped(f.tdx, tdx.MaxQuote)
	if err != nil {
		return nil, err
	}
	collateral, err := f.readCollateral()
	if err != nil {
		return nil, err
	}
	return foreign.TDX(raw, collateral, a)
}

// readCollateral reads a directory's files, or one that shed encoded.
func (f *rawFlags) readCollateral() (*tdx.Collateral, error) {
	if f.collateral == "" {
		return nil, nil
	}
	if info, err := os.Stat(f.collateral); err == nil && info.IsDir() {
		files, err := readEach([]string{f.collateral})
		return foreign.SortCollateral(files...), err
	}
	encoded, err := readCapped(f.collateral, tdx.MaxCollateral)
	if err != nil {
		return nil, err
	}
	return tdx.ParseCollateral(encoded)
}

// maxFiles caps the files of a directory of certificates or collateral.
const maxFiles = 32

// readEach reads files, and those in directories.
func readEach(names []string) (all [][]byte, err error) {
	var files []string
	for _, name := range names {
		entries, err := os.ReadDir(name)
		if err != nil {
			files = append(files, name)
			continue
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				files = append(files, filepath.Join(name, e.Name()))
			}
		}
	}
	if len(files) > maxFiles {
		return nil, cli.Refused(fmt.Errorf("%d files, at most %d", len(files), maxFiles))
	}
	for _, name := range files {
		b, err := readCapped(name, maxRawFile)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// rawResult adds whether the time was assumed.
type rawResult struct {
	*foreign.Result
	TimeAssumed bool `json:"time_assumed"`
}

func (o *verifyOptions) showRaw(cmd *cobra.Command, r *foreign.Result) error {
	if cli.WantsJSON(cmd) {
		return cli.PrintResult(cmd, rawResult{r, !o.at.IsZero()}, "")
	}
	return writeRaw(cmd.OutOrStdout(), r, !o.at.IsZero())
}

func writeRaw(w io.Writer, r *foreign.Result, assumed bool) (err error) {
	line := func(head, text string) {
		if err == nil {
			_, err = fmt.Fprintf(w, "%-10s %s\n", head, cli.Fold(text, 11, cli.Width(w)))
		}
	}
	when := "the clock's"
	if assumed {
		when = "assumed"
	}
	line("time", fmt.Sprintf("%s, %s", r.At.UTC().Format(time.RFC3339), when))
	for _, text := range r.Verified {
		line("verified", text)
	}
	for _, fact := range r.Facts {
		line("shown", fact.Name+" "+fact.Value)
	}
	for _, text := range r.Warnings {
		line("warning", text)
	}
	for _, text := range r.Refusals {
		line("refused", text)
	}
	line("policy", string(r.Policy))
	return err
}
