package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// theMachine names the kind of what is verified where a URL does.
const theMachine = "URL"

// judged are the kinds that are judged as one of the owner's machines is.
var judged = []string{theMachine, "--bundle"}

// flagsOf says which kinds a flag is about. The others take no notice of it.
var flagsOf = map[string][]string{
	"certs":           {"--snp-report", "--tpm-quote"},
	"crl":             {"--snp-report", "--tpm-quote"},
	"collateral":      {"--tdx-quote", "--tpm-quote"},
	"hcl-report":      {"--tpm-quote"},
	"ak-certs":        {"--tpm-quote"},
	"signature":       {"--tpm-quote"},
	"ak":              {"--tpm-quote"},
	"event-log":       {"--tpm-quote"},
	"registers":       {"--tpm-quote"},
	"report-data":     {"--snp-report", "--tdx-quote", "--nitro-document", "--tpm-quote"},
	"release-key":     judged,
	"ek-root":         judged,
	"minimum-tier":    judged,
	"log-key":         judged,
	"witness":         judged,
	"witnesses":       judged,
	"cosignature-age": judged,
}

// checkFlags refuses a flag that what is verified takes no notice of: whoever
// gave it would believe that it was checked.
func checkFlags(cmd *cobra.Command, kind string) (err error) {
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		kinds, some := flagsOf[flag.Name]
		if err == nil && some && !slices.Contains(kinds, kind) {
			err = cli.Hinted(cli.Usage(fmt.Errorf("--%s says nothing of %s", flag.Name, kind)), "it goes with %s", strings.Join(kinds, ", "))
		}
	})
	return err
}
