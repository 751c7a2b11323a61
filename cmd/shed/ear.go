package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

const earHelp = `
With --ear the result is a JWT, an EAT Attestation Result, that is signed with the
client's own key, ear.key in its directory, in the role owner-client. It is for
others to read: no client acts on a result that it did not make itself.
`

func registerEAR(flags *pflag.FlagSet) {
	flags.Bool("ear", false, "print the result as a signed EAT Attestation Result (JWT)")
}

func wantsEAR(cmd *cobra.Command) bool {
	set, err := cmd.Flags().GetBool("ear")
	return err == nil && set
}

// show prints what was made of a machine's evidence as the command asks.
func (c *relyingParty) show(cmd *cobra.Command, found claims, of *verifier.Verified) error {
	if !wantsEAR(cmd) {
		return found.show(cmd)
	}
	token, err := c.sign(found.AttestationResult, of)
	if err != nil {
		return err
	}
	return cli.PrintResult(cmd, struct {
		EAR string `json:"ear"`
	}{token}, "%s\n", token)
}

// sign states the result in the role of the owner's client.
func (c *relyingParty) sign(result attest.AttestationResult, of *verifier.Verified) (string, error) {
	key, err := c.state.ResultKey(c.trust.Rand)
	if err != nil {
		return "", fmt.Errorf("signing the result: %w", err)
	}
	by := ear.Issuer{Role: ear.OwnerClient, Build: ear.ThisBuild(), At: c.trust.Now()}
	var machine ear.Subject
	if of != nil {
		machine = ear.Subject{AK: of.AK, EK: of.EK, Config: of.Config, Claim: of.Claim}
	}
	return ear.Sign(c.trust.Rand, ear.Issue(by, machine, result), key)
}
