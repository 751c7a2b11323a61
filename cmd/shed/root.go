package main

import (
	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

const rootLong = `shed runs a personal, attested VM for every user.

Owners verify, claim and use their machines; operators run the control plane
and look after instances. ` + "`shed serve`, `shed config` and `shed image`" + ` are
programs of their own, shed-serve and shed-image, found beside shed or on the
PATH.`

// newRootCommand is the whole tree of commands, one file each.
func newRootCommand() *cobra.Command {
	root := cli.NewRoot(rootLong)
	root.AddCommand(
		newVerifyCommand(),
		newClaimCommand(),
		newRecoverCommand(),
		newUpdateCommand(),
		newConnectCommand(),
		newLogsCommand(),
		newFnCommand((*relyingParty).toolshed),
		newBackupCommand(),
		newRestoreCommand(),
		newForgetCommand(),
		newPolicyCommand(),
		newInstanceCommand(),
		newReleaseCommand(),
		newProviderCommand(),
		newOfferingsCommand(),
		newEventsCommand(),
		newLogCommand(),
		newWitnessCommand(),
		newAuditCommand(),
		newWebhookCommand(),
		cli.NewVersionCommand(),
	)
	root.AddCommand(newParts()...)
	return root
}
